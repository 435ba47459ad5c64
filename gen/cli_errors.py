"""What a user's mistake looks like: one line instead of a traceback."""

from __future__ import annotations

__all__ = ["FAILED", "INTERRUPTED", "WRONG", "Failure", "explain"]

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit statuses: design and golden model differ; a mistake of the user's; interrupted from the keyboard."""


class Failure(Exception):  # noqa: N818 (also the end of a verification that found a difference, which is no error)
    """Ends a command with a line and an exit status."""

    def __init__(self, message: str, status: int = WRONG):
        super().__init__(" ".join(message.split()))
        self.status = status


def explain(error: Exception) -> str | None:
    """The line that tells a user of a mistake of theirs; None for everything unexpected.

    Expected are the exceptions that the project declares, a ``ValueError`` that the project's own code raises, a
    configuration that pydantic refuses, and files that the system refuses. An exception from inside another library is
    a defect and stays a traceback.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return _one_line(f"{error.filename}: {error.strerror or error}")
    if type(error).__module__.startswith("lmht."):
        return _one_line(str(error))
    if not isinstance(error, ValueError):
        return None
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        from lmht.model.config import explain_validation_error

        return _one_line(explain_validation_error(error))
    return _one_line(str(error)) if _raised_here(error) else None


def _raised_here(error: Exception) -> bool:
    """Whether the ``raise`` stands in the project's own code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("lmht.")


def _one_line(text: str) -> str:
    return " ".join(text.split())
