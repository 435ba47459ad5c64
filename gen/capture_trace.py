"""Trace of a network: the layers and functions that it calls, as a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import fx, nn

from lmht.gen.capture_values import CaptureError
from lmht.model import SpikingNetwork
from lmht.model.tracing import UntraceableError, trace_module

__all__ = ["evaluation_mode", "trace"]


@contextmanager
def evaluation_mode(network: SpikingNetwork) -> Iterator[None]:
    """The network in evaluation mode, and afterwards as it was."""
    modes = {module: module.training for module in network.modules()}
    batches = {neuron: neuron.batch for neuron in network.neurons().values()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for neuron, batch in batches.items():
            neuron.batch = batch


def trace(network: SpikingNetwork) -> tuple[nn.Module, fx.Graph]:
    """The graph of a network's module, and the module that the names in the graph begin at.

    Raises
    ------
    CaptureError
        If the module's ``forward`` cannot be followed.
    """
    try:
        return trace_module(network.module)
    except UntraceableError as error:
        raise CaptureError(str(error)) from error.__cause__
