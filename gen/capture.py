"""Pass 1, for a network of any modules: from a PyTorch network to folded layers.

The network is traced (:mod:`~lmht.gen.capture_trace`), and its operations are followed one by one: each is run on an
image, and at the same time understood as pixels and spikes or as currents (:mod:`~lmht.gen.capture_values`).
What the hardware does not have is refused.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from math import prod
from typing import Any, cast

import torch
from torch import fx, nn

from lmht.gen.capture_operations import FUNCTIONS, METHODS, REASONS, WEIGHTLESS, asks_for_size
from lmht.gen.capture_trace import evaluation_mode, trace
from lmht.gen.capture_values import CaptureError, Currents, Spikes, UnmappedError, Value
from lmht.gen.capture_weights import NO_NORMALIZATION, convolve, describe_neurons, multiply, normalize
from lmht.gen.folded import FoldedLayer, FoldedNetwork
from lmht.gen.input_affine import insert_constants, normalize_image
from lmht.gen.own_behaviour import check_hooks, check_no_global_hooks, check_own_behaviour
from lmht.gen.shared_storage import SharedStorage
from lmht.gen.spike_interface import check_spike_interface, count_spikes
from lmht.model import QuantConv2d, QuantLinear, SpikingNetwork, WindowLMHT
from lmht.model.joined_norm import JOINED_NORMS
from lmht.model.memory_order import in_best_format
from lmht.model.tracing import describe_place, is_normalize
from lmht.rtl.checks import check_range
from lmht.rtl.projection import IMAGE

__all__ = ["capture"]

IMAGES = 2
"""Images that are run: rows of T steps are then told apart from rows of one."""

ACCEPTED = (
    "accepted are Conv2d, Linear, BatchNorm1d, BatchNorm2d, WindowLMHT, average and max pooling, Flatten, Dropout, "
    "Identity, and sums of two branches in front of neurons"
)


def capture(network: SpikingNetwork, *, weight_bits: int = 8) -> FoldedNetwork:
    """Layers of a network, with batch norms folded.

    Convolutions and linear layers become projections, pooling behind neurons part of the projections that follow, and
    a sum in front of neurons a second projection. Batch norms fold with their running statistics, whatever mode the
    network is in. The network stays as it is.

    Parameters
    ----------
    network : SpikingNetwork
        Its quantized layers keep the integers that were trained.
    weight_bits : int
        Width, 2 to 8, to which plain ``nn.Conv2d`` and ``nn.Linear`` (and quantized ones without a width) are rounded,
        output channel by output channel.

    Raises
    ------
    CaptureError
        If the network holds something that the hardware does not have.
    ValueError
        If `weight_bits` lies outside its range, or spikes are coded or read out in a way that the hardware does not
        have.
    """
    check_range("weight_bits", weight_bits, 2, 8)
    check_spike_interface(network)
    _check_outside(network)
    with evaluation_mode(network), torch.no_grad():
        return _Capture(network, weight_bits).run()


def _check_outside(network: SpikingNetwork) -> None:
    """Refuse what is done around the network's module, which the trace does not see."""
    try:
        check_no_global_hooks()
        check_hooks(network)
        kind = next(kind for kind in type(network).__mro__ if kind.__module__.startswith("lmht.model."))
        check_own_behaviour(network, kind)
    except UnmappedError as refusal:
        raise CaptureError(f"network ({type(network).__name__}): {refusal}") from None


class _Capture:
    """One capture: values and tensors of the nodes so far, and the layers found."""

    def __init__(self, network: SpikingNetwork, weight_bits: int) -> None:
        self.network = network
        self.root, self.graph = trace(network)
        self.calls = Counter(node.target for node in self.graph.nodes if node.op == "call_module")
        self.last_users = {used: node for node in self.graph.nodes for used in node.all_input_nodes}
        self.values: dict[fx.Node, Any] = {}
        self.tensors: dict[fx.Node, Any] = {}
        self.shared = SharedStorage()
        self.layers: list[FoldedLayer] = []
        self.neuron_names = {neuron: name for name, neuron in network.neurons().items()}
        self.module_rules: dict[type[nn.Module], Callable[..., Value]] = {
            **dict.fromkeys((nn.Conv2d, QuantConv2d), partial(convolve, weight_bits=weight_bits)),
            **dict.fromkeys((nn.Linear, QuantLinear), partial(multiply, weight_bits=weight_bits)),
            **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, *JOINED_NORMS), normalize),
            WindowLMHT: self._add_layer,
            **WEIGHTLESS,
        }

    def run(self) -> FoldedNetwork:
        """Follow the graph from the image to the logits."""
        parameter = next(self.network.parameters(), torch.empty(0))
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(IMAGES, *self.network.input_shape, generator=generator).to(parameter)
        for neuron in self.network.neurons().values():
            neuron.batch = IMAGES
        for node in self.graph.nodes:
            try:
                if node.op == "placeholder":
                    self.values[node] = Spikes(source=IMAGE, source_shape=self.network.input_shape)
                    self.tensors[node] = in_best_format(images, self.network)
                    self.shared.after(node, self.tensors[node], {})
                elif node.op == "output":
                    self._finish(node, images)
                else:
                    self._follow(node)
            except UnmappedError as refusal:
                raise CaptureError(f"{describe_place(self.root, node)}: {refusal}") from None
            for used in node.all_input_nodes:
                if self.last_users[used] is node:
                    del self.tensors[used]
        return insert_constants(
            FoldedNetwork(input_shape=self.network.input_shape, layers=tuple(self.layers))
        )

    def _follow(self, node: fx.Node) -> None:
        arguments, named = fx.node.map_arg((node.args, node.kwargs), lambda used: self.values[used])
        sees_values = any(isinstance(self.values[used], Spikes | Currents) for used in node.all_input_nodes)
        understood = None
        if sees_values and not asks_for_size(node.op, node.target, node.args):
            understood = self._apply(node, arguments, named)
        self.shared.before(self.tensors)
        tensor = self._compute(node)
        self.shared.after(node, tensor, self.tensors)
        self._check_finite(tensor)
        if understood is None:
            constant = isinstance(tensor, torch.Tensor)
            self.values[node] = tensor.detach().cpu().double().numpy() if constant else tensor
        else:
            self._check_shape(understood, tensor)
            self.values[node] = understood
        self.tensors[node] = tensor

    def _apply(self, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]) -> Value:
        """What an operation makes of the values that it takes."""
        rule: Callable[..., Value] | None
        if node.op == "call_module":
            rule = self._module_rule(str(node.target))
        else:
            rule = METHODS.get(str(node.target)) if node.op == "call_method" else FUNCTIONS.get(node.target)
        if rule is None:
            if any(isinstance(value, Spikes) and value.source == IMAGE for value in arguments):
                raise UnmappedError(f"it is not mapped; {NO_NORMALIZATION}")
            raise UnmappedError(f"it is not mapped; {ACCEPTED}")
        try:
            signature(rule).bind(*arguments, **named)
        except TypeError as error:
            raise UnmappedError(f"its arguments are not mapped ({error})") from None
        return rule(*arguments, **named)

    def _module_rule(self, target: str) -> Callable[..., Value]:
        module = self.root.get_submodule(target)
        if is_normalize(module):
            return partial(normalize_image, mean=cast(Any, module).mean, std=cast(Any, module).std)
        kind = next(
            (kind for kind in type(module).__mro__ if kind in self.module_rules or kind in REASONS), None
        )
        if kind in REASONS:
            raise UnmappedError(REASONS[kind])
        if kind is None:
            raise UnmappedError(f"it is not mapped; {ACCEPTED}")
        check_own_behaviour(module, kind)
        if module.training:
            raise UnmappedError("it stays in training mode after eval(), which hardware does not have")
        if kind not in WEIGHTLESS and self.calls[target] > 1:
            raise UnmappedError(
                f"it is called {self.calls[target]} times; use a module of its own for every place"
            )
        return partial(self.module_rules[kind], module=module)

    def _add_layer(self, value: Value, module: WindowLMHT) -> Spikes:
        """Neurons: the currents in front of them become a layer."""
        currents = value.as_currents() if isinstance(value, Spikes) else value
        neuron, name = describe_neurons(module), self.neuron_names[module]
        self.layers.append(replace(currents.layer, neuron=neuron, name=name))
        return Spikes(source=len(self.layers) - 1, source_shape=currents.shape, flat=currents.flat)

    def _compute(self, node: fx.Node) -> Any:
        """Result of an operation on the images."""
        arguments, named = fx.node.map_arg((node.args, node.kwargs), lambda used: self.tensors[used])
        try:
            match node.op:
                case "call_module":
                    return self.root.get_submodule(str(node.target))(*arguments, **named)
                case "call_method":
                    return getattr(arguments[0], str(node.target))(*arguments[1:], **named)
                case "get_attr":
                    return operator.attrgetter(str(node.target))(self.root)
                case _:
                    assert callable(node.target)
                    return node.target(*arguments, **named)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise UnmappedError(
                f"it fails on an image of shape {self.network.input_shape} ({text})"
            ) from error

    def _check_finite(self, tensor: Any) -> None:
        """Numbers that are not finite belong to where they come from first: NaN is unequal to itself further on."""
        if isinstance(tensor, torch.Tensor) and not torch.isfinite(tensor).all():
            worst = tensor[~torch.isfinite(tensor)].flatten()[0].item()
            raise UnmappedError(f"its result on random images must be finite, not {worst}")

    def _check_shape(self, value: Value, tensor: Any) -> None:
        rows = IMAGES if value.is_timeless else self.network.steps * IMAGES
        expected = (rows, prod(value.shape)) if value.flat else (rows, *value.shape)
        found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if found != expected:
            raise UnmappedError(f"its result must have shape {expected}, not {found}")

    def _finish(self, node: fx.Node, images: torch.Tensor) -> None:
        """The last currents are the logits."""
        (result,) = node.args
        if not isinstance(result, fx.Node):
            kind = type(result).__name__.removeprefix("immutable_")
            raise CaptureError(f"network: its result must be one tensor of logits, not of type {kind}")
        value = self.values[result]
        place = describe_place(self.root, result)
        wanted = (self.network.steps * IMAGES, self.network.classes)
        name = ""
        if self.network.readout == "spike-count" and isinstance(value, Spikes) and value.source != IMAGE:
            if value.shape != (self.network.classes, 1, 1) or value.source != len(self.layers) - 1:
                raise CaptureError(f"{place}: a spike count needs output neurons, one for each class")
            counted = count_spikes(value.source, self.network.classes)
            value, name = Currents(layer=counted, flat=value.flat, is_weighted=True), counted.name
        if not isinstance(value, Currents) or not value.is_weighted:
            raise CaptureError(
                f"{place}: the network must end with a Linear layer (or a convolution) as its classifier"
            )
        if len(value.layer.projections) > 1:
            raise CaptureError(f"{place}: the sum of two classifiers is not mapped; use one Linear layer")
        if value.shape[1:] != (1, 1):
            height, width = value.shape[1:]
            raise CaptureError(
                f"{place}: a classifier has one pixel, not {height} x {width}; pool or flatten the spikes before it"
            )
        if tuple(self.tensors[result].shape) != wanted:
            found = tuple(self.tensors[result].shape)
            raise CaptureError(
                f"{place}: the network's result must have shape {wanted}, steps times images and classes, not {found}"
            )
        self.layers.append(replace(value.layer, name=name or self._classifier_name(result)))
        self._check_use()
        expected = self.network.run_modules(images)
        logits = self.tensors[result].unflatten(0, (self.network.steps, IMAGES)).mean(dim=0)
        if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3):
            raise CaptureError(
                "network: it computes something else than when it was traced; forward must do the same at every call"
            )

    def _classifier_name(self, node: fx.Node) -> str:
        """Name of the convolution or linear layer that the logits come from."""
        while node.op != "call_module" or not isinstance(
            self.root.get_submodule(str(node.target)), nn.Conv2d | nn.Linear
        ):
            node = node.all_input_nodes[0]
        return str(node.target).partition(".")[2]

    def _check_use(self) -> None:
        used = {projection.source for layer in self.layers for projection in layer.projections}
        for index, layer in enumerate(self.layers[:-1]):
            if index not in used:
                raise CaptureError(f"{layer.name} (WindowLMHT): its spikes reach no logit; leave it out")
        if IMAGE not in used:
            raise CaptureError("network: no layer sees the image")
