"""Command line: ``lmht train | convert | stats | compile | verify | soc | bench | demo``.

Modules that import PyTorch or Amaranth are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from lmht.gen.cli_bench import bench
from lmht.gen.cli_compile import compile_run
from lmht.gen.cli_convert import convert
from lmht.gen.cli_demo import demo
from lmht.gen.cli_errors import INTERRUPTED, Failure, explain
from lmht.gen.cli_soc import soc
from lmht.gen.cli_stats import stats
from lmht.gen.cli_train import train
from lmht.gen.cli_verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="lmht",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # examples keep their lines, and a log file gets no boxes
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("train")(train)
app.command("convert")(convert)
app.command("stats")(stats)
app.command("compile")(compile_run)
app.command("verify")(verify)
app.command("soc")(soc)
app.command("bench")(bench)
app.command("demo")(demo)

# Wrong options and values; typer keeps the class itself private.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lmht {version('lmht')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _lmht(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """From a trained multi-threshold spiking network to verified hardware.

    \b
    The whole way on the bundled handwritten digits:
      lmht demo
    \b
    The same with a network of your own:
      lmht train --data mnist --data-dir DIR --net 784-128-10 --out runs/mnist
      lmht compile runs/mnist --lanes 16 --out build/mnist
      lmht verify build/mnist --engine harness --images all
      lmht bench build/mnist
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command and options; those of the process by default.

    Returns
    -------
    int
        0, 1 for a design that differs from the golden model, 2 for a mistake of the user's, which is one line on the
        error output, and 130 after an interrupt. Everything unexpected is raised.
    """
    try:
        status = app(arguments, prog_name="lmht", standalone_mode=False)
    except Failure as failure:
        return _complain(str(failure), failure.status)
    except _UsageError as error:
        return _complain(_explain_usage(error), 2)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        return _complain(line, 2)
    if status == INTERRUPTED:
        return _complain("interrupted", INTERRUPTED)
    return int(status or 0)


def _explain_usage(error: Exception) -> str:
    message = " ".join(getattr(error, "format_message", error.__str__)().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if context is not None else message


def _complain(line: str, status: int) -> int:
    print(f"error: {line}", file=sys.stderr)
    return status


def _leave(status: int) -> NoReturn:
    """End the process, one of several of ``torchrun`` without Python's own clearing up.

    Threads of gloo may outlive their process group, and now and then abort an interpreter that clears up under them
    (PyTorch 2.13), which would make a failure of a finished training. All files are closed by now.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _leave(main())
