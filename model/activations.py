"""Activations of a module that can become LM-HT neurons, and what may stand between them.

Conversion rests on means (Theorem 4.2 (ii)): the mean over the steps of what a layer sends is what QCFS gives for the
mean of its current. So everything between two activations must turn means into means, as affine layers, sums and
averages do. A maximum does not: the mean of the largest of several spike trains is not the largest of their means.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .neurons import LMHT, QCFS
from .quantization import QuantConv2d, QuantLinear
from .tracing import describe_place, trace_module

__all__ = ["Activations", "ConversionError", "find_activations"]


class ConversionError(ValueError):
    """A network cannot be converted; the message names the module and says why."""


_AFFINE_MODULES = (
    *(nn.Conv2d, nn.Linear, QuantConv2d, QuantLinear, nn.BatchNorm1d, nn.BatchNorm2d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
_AFFINE_FUNCTIONS = (
    *(operator.add, operator.iadd, operator.sub, torch.add, torch.sub),
    *(F.avg_pool2d, torch._C._nn.avg_pool2d, F.adaptive_avg_pool2d, torch.mean),
    *(torch.flatten, torch.reshape, F.dropout, F.dropout2d, torch.dropout),
)
_AFFINE_METHODS = ("add", "add_", "sub", "flatten", "reshape", "view", "mean", "clone", "contiguous")
_SAME_MEMORY_MODULES = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_SAME_MEMORY = (
    *(torch.flatten, torch.reshape, F.dropout, F.dropout2d, torch.dropout),
    *("flatten", "reshape", "view", "contiguous"),
)
_SIZES = ("size", "dim")
_RELUS = (F.relu, torch.relu, F.relu_, torch.relu_)
_RELU_METHODS = ("relu", "relu_")

_MAX = "the mean over the steps of a maximum is not the maximum of the means; use average pooling"
_REASONS: dict[object, str] = {
    **dict.fromkeys((nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool1d), _MAX),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d, torch.amax, torch.max), _MAX),
    **dict.fromkeys(("amax", "max"), _MAX),
    LMHT: "it spikes already; only QCFS and ReLU are converted",
}
_OTHERWISE = (
    "it is not known to turn means over the steps into means; accepted are Conv2d, Linear, BatchNorm1d, BatchNorm2d, "
    "average pooling, Flatten, Dropout, Identity, sums, and the activations"
)


@dataclass(frozen=True, eq=False)
class Activations:
    """The trace of a module, and where it calls its activations.

    Attributes
    ----------
    root : torch.nn.Module
        Module at which the names in the graph begin; its child ``module`` is the module traced.
    graph : torch.fx.Graph
        Its calls.
    qcfs, relus : list of torch.fx.Node
        Calls of :class:`QCFS`, and of ReLU as module, function or method.
    """

    root: nn.Module
    graph: fx.Graph
    qcfs: list[fx.Node]
    relus: list[fx.Node]


def find_activations(module: nn.Module) -> Activations:
    """Find the activations of a module and check all that stands between them.

    Parameters
    ----------
    module : torch.nn.Module
        From an image to logits, with QCFS or ReLU; it is left as it is.

    Raises
    ------
    ConversionError
        If there is no activation, or something that does not keep means.
    UntraceableError
        If the module's ``forward`` cannot be followed.
    """
    root, graph = trace_module(module)
    found = Activations(root, graph, [], [])
    for node in graph.nodes:
        kind = _kind(root, node)
        if kind is QCFS:
            found.qcfs.append(node)
        elif kind is nn.ReLU:
            found.relus.append(node)
        elif kind is not None:
            raise ConversionError(f"{describe_place(root, node)}: {_REASONS.get(kind, _OTHERWISE)}")
        if _changes_what_others_use(root, node):
            raise ConversionError(
                f"{describe_place(root, node)}: it changes its operand in place, which is used elsewhere too"
            )
    if not found.qcfs and not found.relus:
        raise ConversionError(f"{type(module).__name__}: it has neither QCFS nor ReLU to be converted")
    return found


def _kind(root: nn.Module, node: fx.Node) -> object:
    """``QCFS``, ``nn.ReLU``, None for what keeps means, or what it is that does not."""
    if node.op == "call_module":
        types = type(root.get_submodule(str(node.target))).__mro__
        known = (QCFS, nn.ReLU, *_AFFINE_MODULES, *_REASONS)
        kind: Any = next((kind for kind in types if kind in known), types[0])
        return None if kind in _AFFINE_MODULES else kind
    if node.op == "call_function":
        if node.target in _RELUS:
            return nn.ReLU
        asks_for_size = node.target is getattr and node.args[1] in ("shape", "ndim")
        of_sizes = not _sees_tensors(node)
        return None if node.target in _AFFINE_FUNCTIONS or asks_for_size or of_sizes else node.target
    if node.op == "call_method":
        if node.target in _RELU_METHODS:
            return nn.ReLU
        return None if node.target in (*_AFFINE_METHODS, *_SIZES) else node.target
    return None


def _sees_tensors(node: fx.Node) -> bool:
    """Whether an operation takes what is computed from the image, and not only its sizes."""
    return any(not _is_size(used) for used in node.all_input_nodes)


def _is_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZES
    if node.op == "call_function" and node.target is getattr:
        return True
    return node.op == "call_function" and bool(node.all_input_nodes) and not _sees_tensors(node)


def _changes_what_others_use(root: nn.Module, node: fx.Node) -> bool:
    if not _is_in_place(root, node):
        return False
    names = {node.all_input_nodes[0]}  # of the memory that it changes
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        found = {user for user in name.users if user is not node and _returns_operand(root, user)}
        if _returns_operand(root, name):
            found.add(name.all_input_nodes[0])
        waiting += found - names
        names |= found
    users = {user for name in names for user in name.users} - names - {node}
    return any(not _is_size(user) for user in users)


def _is_in_place(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    in_place = node.target in (operator.iadd, "add_", "relu_", F.relu_, torch.relu_)
    return in_place or bool(node.kwargs.get("inplace"))


def _returns_operand(root: nn.Module, node: fx.Node) -> bool:
    """Whether what it returns may be its operand, changed or not, or a view of it."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return isinstance(module, _SAME_MEMORY_MODULES) or _is_in_place(root, node)
    return node.target in _SAME_MEMORY or _is_in_place(root, node)
