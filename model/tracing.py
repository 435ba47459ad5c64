"""Trace of a module: the layers and functions that it calls, as a graph."""

from __future__ import annotations

import operator
import re
import sys
import traceback
from pathlib import Path

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from .neurons import LMHT, QCFS
from .quantization import QuantConv2d, QuantLinear

__all__ = [
    "UntraceableError",
    "describe_place",
    "is_normalize",
    "line_of_user",
    "trace_module",
    "wrapped_by",
]

_ROOT = "module"

_LEAVES = (LMHT, QCFS, QuantConv2d, QuantLinear, nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
"""Modules that stay whole, also as bases of the user's classes; and all others of torch.nn but containers."""


class UntraceableError(ValueError):
    """A module's ``forward`` cannot be followed; the message names the line."""


class _Proxy(fx.Proxy):
    """Keeps ``+=`` apart from ``+``, since it also changes its operand wherever that has another name."""

    def __iadd__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or is_normalize(m) or super().is_leaf_module(m, module_qualified_name)


def is_normalize(module: nn.Module) -> bool:
    """Whether it is ``Normalize`` of torchvision, with ``mean`` and ``std``; known by name, since lmht does without."""
    kind = type(module)
    return kind.__module__.startswith("torchvision.transforms") and kind.__name__ == "Normalize"


class _Root(nn.Module):
    """Calls the module with the image alone, so that other arguments of its ``forward`` have their defaults."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.module(image)


def trace_module(module: nn.Module) -> tuple[nn.Module, fx.Graph]:
    """The graph of a module, and the module that the names in the graph begin at, whose child ``module`` it is.

    Raises
    ------
    UntraceableError
        If the module's ``forward`` cannot be followed, or it is compiled or data-parallel.
    """
    for name, part in module.named_modules():
        unwrapped = wrapped_by(part)
        if unwrapped is not None:
            raise UntraceableError(
                f"{name or 'network'} ({type(part).__name__}): it only runs another module; use that itself, its "
                f".{unwrapped}"
            )
    root = _Root(module)
    try:
        return root, _Tracer().trace(root)
    except TraceError:
        why = "its way depends on data or on a size (if, for, while or assert on them)"
        raise UntraceableError(
            f"{line_of_user(module)}: {why}; hardware has one way: decide in __init__"
        ) from None
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UntraceableError(
            f"{line_of_user(module)}: forward cannot be followed ({text}); use layers of torch.nn and lmht.model"
        ) from error


def wrapped_by(module: nn.Module) -> str | None:
    """Name under which a wrapper of PyTorch (a compiled or data-parallel module) has the module that it runs."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    return "_orig_mod" if "_orig_mod" in module._modules else None


def line_of_user(module: nn.Module) -> str:
    """Type of the module, and the innermost line outside PyTorch in which the current exception went by."""
    _, _, trace_back = sys.exc_info()
    torch_folder = str(Path(torch.__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(trace_back)
        if not frame.filename.startswith(torch_folder) and frame.filename != __file__
    ]
    place = type(module).__name__
    return f"{place} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else place


def describe_place(root: nn.Module, node: fx.Node) -> str:
    """Name and type of the module that a node calls; of the module around it, and its own name, for a function."""
    if node.op == "call_module":
        target = str(node.target)
        return f"{_without_root(target)} ({type(root.get_submodule(target)).__name__})"
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else (_ROOT, type(root.get_submodule(_ROOT)))
    called = _without_root(str(node.target)) if node.op == "get_attr" else re.sub(r"_\d+$", "", node.name)
    return f"{_without_root(path)} ({kind.__name__}): {called}"


def _without_root(path: str) -> str:
    return path.removeprefix(_ROOT).removeprefix(".") or "network"
