"""What a run folder already holds, and whether a training may continue it."""

from pathlib import Path

from .checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_run_config
from .config import RunConfig
from .run_state import RESUME_FILE, read_training_run

__all__ = ["RunError", "find_earlier_run"]


class RunError(ValueError):
    """A run cannot be started or continued in the folder, or went wrong; the message says why."""


def find_earlier_run(folder: Path, wanted: RunConfig, resume: bool) -> RunConfig | None:
    """Find the run in a folder that may be continued, or returned if it is finished.

    Parameters
    ----------
    folder : Path
        Folder of the run; it need not exist.
    wanted : RunConfig
        Record whose data set and configurations the run must have.
    resume : bool
        Whether a run may be there at all.

    Returns
    -------
    RunConfig or None
        The record of the run found; None if the folder holds none.

    Raises
    ------
    RunError
        If the folder holds another run, or one that cannot be continued.
    CheckpointError
        If a file of the run is damaged.
    """
    has_config, has_state = (folder / CONFIG_FILE).exists(), (folder / RESUME_FILE).exists()
    if not has_config and not has_state:
        if (folder / WEIGHTS_FILE).exists():
            raise RunError(
                f"{folder} holds {WEIGHTS_FILE} without {CONFIG_FILE}; choose another folder or overwrite"
            )
        return None
    if not resume:
        raise RunError(f"{folder} already holds a run; resume it, choose another folder or overwrite")
    # After an interruption in the first epoch's writing there is a resume file alone.
    run = read_run_config(folder) if has_config else read_training_run(folder)
    difference = _first_difference(run, wanted)
    if difference is not None:
        field, found, asked = difference
        raise RunError(
            f"{folder} holds a run of another configuration: {field} is {found!r} there and {asked!r} here; "
            "choose another folder or overwrite"
        )
    if not run.finished and not has_state:
        raise RunError(
            f"{folder} holds an unfinished run without {RESUME_FILE}; choose another folder or overwrite"
        )
    return run


def _first_difference(run: RunConfig, wanted: RunConfig) -> tuple[str, object, object] | None:
    if run.dataset != wanted.dataset:
        return "dataset", run.dataset, wanted.dataset
    if run.start_sha256 != wanted.start_sha256:
        return "start_sha256", run.start_sha256, wanted.start_sha256
    if type(run.network) is not type(wanted.network):
        return "network.architecture", run.network.architecture, wanted.network.architecture
    for group in ("network", "training"):
        found = getattr(run, group).model_dump()
        for field, value in getattr(wanted, group).model_dump().items():
            if found[field] != value:
                return f"{group}.{field}", found[field], value
    return None
