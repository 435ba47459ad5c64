"""Networks of the user's own: a Python file with a function that builds an ``nn.Module``."""

from __future__ import annotations

import hashlib
import itertools
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .build_config import BuildConfig
from .qcfs_network import wrap_module
from .spiking_network import SpikingNetwork

__all__ = ["OwnNetworkError", "OwnSource", "build_own_network", "is_own_net", "read_own_source"]

_Result = TypeVar("_Result")
_numbers = itertools.count()


class OwnNetworkError(ValueError):
    """A network of the user's cannot be built; the message names file, line and what is wrong."""


@dataclass(frozen=True)
class OwnSource:
    """File that builds a network.

    Attributes
    ----------
    path : Path
        Where it was read, for error messages.
    function : str
        Name of the function in it.
    content : bytes
        The file.
    """

    path: Path
    function: str
    content: bytes

    @property
    def net(self) -> str:
        """Name of the network in a configuration: ``FILE.py:FUNCTION``, without the folder."""
        return f"{self.path.name}:{self.function}"

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


def is_own_net(text: str) -> bool:
    """Whether the name of a network is that of a file."""
    return ".py" in text or ":" in text


def read_own_source(text: str, folder: str | Path = ".") -> OwnSource:
    """Read the file of ``FILE.py:FUNCTION``.

    Parameters
    ----------
    text : str
        Path of the file and name of the function; ``build`` if only a path is given.
    folder : path
        Where a relative path begins.

    Raises
    ------
    OwnNetworkError
        If the text is not of that form or the file cannot be read.
    """
    name, colon, function = text.rpartition(":") if ".py:" in text else (text, ":", "build")
    if not (name.endswith(".py") and colon and function.isidentifier()):
        raise OwnNetworkError(f"net must be FILE.py:FUNCTION for a network of your own, not {text!r}")
    path = Path(folder) / name
    try:
        return OwnSource(path, function, path.read_bytes())
    except FileNotFoundError:
        raise OwnNetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise OwnNetworkError(f"{path}: cannot be read ({error.strerror or error})") from None


def build_own_network(source: OwnSource, config: BuildConfig) -> SpikingNetwork:
    """Run the file, call its function and check what it returns.

    The function takes a :class:`BuildConfig` and returns an ``nn.Module`` from currents (B, C, H, W) to
    (T B, classes). Its convolutions and linear layers become quantized ones. The file runs on its own: it may
    import what is installed, not its neighbours, since a run keeps a copy of this one file.

    Raises
    ------
    OwnNetworkError
        If the file or the function fails, there is no such function, or what it returns is no such module.
    """
    build = _find_function(source)
    module = _attempt(source, f"{source.function}() failed", lambda: build(config))
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise OwnNetworkError(f"{source.path}: {source.function} must return a torch.nn.Module, not {kind}")

    network = _attempt(source, "the network cannot be used", lambda: wrap_module(module, config.network))
    _attempt(source, "the network failed on two black images", lambda: _try_out(network))
    return network


@torch.no_grad()
def _try_out(network: SpikingNetwork) -> None:
    training = network.training
    network.eval().run_modules(torch.zeros(2, *network.example_shape))
    network.train(training)


def _find_function(source: OwnSource) -> Callable[[BuildConfig], object]:
    # A name of its own for every load: classes of one run must not become those of another.
    module = types.ModuleType(f"lmht_own_network_{next(_numbers)}")
    module.__file__ = str(source.path)
    sys.modules[module.__name__] = module  # dataclasses and the like look their module up

    def run() -> None:
        exec(compile(source.content, str(source.path), "exec"), module.__dict__)

    _attempt(source, "the file failed", run)
    found = getattr(module, source.function, None)
    if not callable(found):
        raise OwnNetworkError(f"{source.path}: no function {source.function} in it")
    return found


def _attempt(source: OwnSource, failure: str, action: Callable[[], _Result]) -> _Result:
    """Run what belongs to the user; any error becomes one line that names the line of their file."""
    try:
        return action()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(source.path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = source.path if line is None else f"{source.path}:{line}"
        # A SyntaxError says its place a second time.
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        raise OwnNetworkError(f"{place}: {failure}: {type(error).__name__}: {text}") from error
