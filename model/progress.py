"""Progress bar of training."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from .config import EpochRecord

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Bar over all updates of a training, with loss, accuracy and the time left; a context manager.

    Parameters
    ----------
    epochs, updates : int
        Number of epochs, and of updates in each.
    done : int
        Epochs already trained, in a resumed run.
    enabled : bool
        Whether to show anything; nothing is shown either if the output is not a terminal.
    """

    def __init__(self, epochs: int, updates: int, done: int, enabled: bool) -> None:
        console = Console(stderr=True)
        self._epochs = epochs
        # Fits a terminal of 80 columns, where rich would otherwise cut the numbers.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._progress.add_task(
            "training", total=epochs * updates, completed=done * updates, state=""
        )

    def __enter__(self) -> "TrainingProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self) -> None:
        """Count one update of the weights."""
        self._progress.advance(self._task)

    def epoch(self, record: EpochRecord, best_accuracy: float | None) -> None:
        """Show what an epoch gave."""
        state = f"loss {record.loss:.4f}"
        if record.validation_accuracy is None or best_accuracy is None:
            state += f"  accuracy {record.train_accuracy:.2%}"
        else:
            state += f"  accuracy {record.validation_accuracy:.2%} (best {best_accuracy:.2%})"
        self._progress.update(self._task, description=f"epoch {record.epoch}/{self._epochs}", state=state)
