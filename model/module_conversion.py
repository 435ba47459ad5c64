"""Conversion of modules: QCFS or ReLU to LM-HT neurons, also of networks trained elsewhere."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import fx, nn

from .activations import ConversionError, find_activations
from .checks import check_integer
from .network import analog_image, check_pixels
from .neurons import QCFS, Mixing
from .spiking_network import SpikingNetwork
from .tracing import describe_place
from .window_neurons import WindowLMHT

__all__ = ["calibrate_threshold", "convert_module", "replace_qcfs"]

_CANDIDATES = 64
_MOST_VALUES = 2**19
"""Activations of a layer that are looked at, evenly spread over the data."""

LeakOption = Literal["learned"] | float


def convert_module(
    module: nn.Module,
    calibration_images: torch.Tensor,
    levels: int,
    steps: int,
    *,
    mixing: Literal["learned", "uniform"] = "learned",
    leak: LeakOption = "learned",
) -> SpikingNetwork:
    """Turn a network trained elsewhere into a spiking one.

    Every :class:`QCFS`, whose θ was learned, and every ReLU, as module, function or method, becomes LM-HT neurons with
    ``θ = θ_q / L``, ``v[-1] = θ/2``, ``Ω = 1/T`` and ``λ = 1``, as :func:`lmht.model.convert_qcfs` explains it.
    ReLU has no upper end: its ``θ_q`` is the one of 64 for which QCFS of ``Q = L T`` levels has the least
    squared error on the calibration images (:func:`calibrate_threshold`). Layers are calibrated in their order, each
    with what the ones before it give once they are quantized. A ReLU that is called in several places becomes as
    many layers of neurons. Weights stay in floating point, batch norms and dropout as they are.

    Parameters
    ----------
    module : torch.nn.Module
        From pixels between 0 and 1, (B, C, H, W), to logits (B, classes); it is left as it is. What is done to the
        pixels in front of the network must be part of it. Its last layer has no activation.
    calibration_images : torch.Tensor, shape (B, C, H, W)
        ``uint8`` from 0 to 255, or floating point from 0 to 1; some hundred training images, run in one batch.
    levels, steps : int
        L and T, at least 1.
    mixing : {"learned", "uniform"}
        Whether Ω can be learned on in fine-tuning.
    leak : "learned" or 1.0
        Whether λ can be.

    Returns
    -------
    SpikingNetwork
        In evaluation mode. Its module is a :class:`torch.fx.GraphModule` with copies of the layers under their names.

    Raises
    ------
    ConversionError
        If something stands between the activations that does not keep means, such as max pooling, or the network
        does not work with T rows for every image.
    UntraceableError
        If the module's ``forward`` cannot be followed.
    TypeError, ValueError
        If an argument has the wrong type or lies outside its range, such as float pixels above 1, or a layer is
        silent on all the images.
    """
    levels = check_integer("levels", levels, 1)
    steps = check_integer("steps", steps, 1)
    _check_kept("mixing", mixing, ("learned", "uniform"))
    _check_kept("leak", leak, ("learned", 1.0))
    if calibration_images.dim() != 4 or len(calibration_images) == 0:
        raise ValueError(
            f"calibration_images must have shape (at least 1, C, H, W), not {tuple(calibration_images.shape)}"
        )
    check_pixels("calibration_images", calibration_images)
    copied = copy.deepcopy(module).eval()
    traced = _calibrated(copied, levels * steps)
    with torch.no_grad():
        logits = traced(analog_image(calibration_images))
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"the module's output must have shape (B, classes), not {found}")
    for name, part in list(traced.named_modules()):
        if isinstance(part, _Calibration):
            traced.set_submodule(name, part.chosen())
    spiking = replace_qcfs(traced, levels, steps, mixing=mixing, leak=leak)
    channels, height, width = calibration_images.shape[1:]
    network = SpikingNetwork(spiking, input_shape=(channels, height, width), classes=logits.shape[1])
    _try_out(network.eval(), calibration_images[:2])
    return network


@torch.no_grad()
def _try_out(network: SpikingNetwork, images: torch.Tensor) -> None:
    try:
        network(images)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConversionError(
            f"the converted network fails on calibration images ({text}); behind neurons there are T rows for every "
            "image: take a size from the value that is reshaped, not from the image"
        ) from error


def replace_qcfs(
    module: nn.Module, levels: int, steps: int, *, mixing: Mixing, leak: LeakOption
) -> nn.Module:
    """Replace every QCFS in a module by LM-HT neurons, in place, under the same name.

    Raises
    ------
    ValueError
        If one has an upper end of 0 or less.
    """
    made: dict[QCFS, WindowLMHT] = {}
    # With the second names of what is used twice, which stays one layer.
    for name, part in list(module.named_modules(remove_duplicate=False)):
        if isinstance(part, QCFS) and part not in made:
            upper_end = part.theta.item()
            if upper_end <= 0:
                raise ValueError(f"{name}: theta must be above 0 for conversion, not {upper_end:g}")
            theta = upper_end / levels
            neuron = WindowLMHT(levels, steps, theta, theta / 2, mixing=mixing, leak=leak)
            made[part] = neuron.to(part.theta.device).train(part.training)
        if isinstance(part, QCFS):
            module.set_submodule(name, made[part])
    return module


def calibrate_threshold(currents: torch.Tensor, quanta: int) -> float | None:
    """Upper end ``θ_q`` for which QCFS comes closest to ReLU on given currents.

    Parameters
    ----------
    currents : torch.Tensor
        Input ``z`` of the activation, of any shape.
    quanta : int
        Steps Q of the staircase.

    Returns
    -------
    float or None
        Of 64 evenly spaced parts of the largest current, the largest included, the one with the least sum of
        ``(QCFS(z) - max(z, 0))²``; None if no current is above 0.
    """
    positive = currents.detach().flatten().clamp(min=0)
    stride = -(-len(positive) // _MOST_VALUES)
    values = positive[::stride]
    largest = positive.max().item()
    if largest <= 0:
        return None
    ends = [largest * part / _CANDIDATES for part in range(1, _CANDIDATES + 1)]
    return min(ends, key=lambda end: _squared_error(values, quanta, end))


def _squared_error(values: torch.Tensor, quanta: int, upper_end: float) -> float:
    staircase = torch.floor(values * (quanta / upper_end) + 0.5).clamp_(0, quanta) * (upper_end / quanta)
    return (staircase - values).double().square_().sum().item()


class _Calibration(nn.Module):
    """In place of a ReLU: chooses its ``θ_q`` at the first call, and gives what QCFS then does."""

    def __init__(self, place: str, quanta: int) -> None:
        super().__init__()
        self.place = place
        self.quanta = quanta
        self.qcfs: QCFS | None = None

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        upper_end = calibrate_threshold(z, self.quanta)
        if upper_end is None:
            raise ValueError(f"{self.place}: its current is never above 0 on the calibration images")
        self.qcfs = QCFS(self.quanta, upper_end).to(z)
        return self.qcfs(z)

    def chosen(self) -> QCFS:
        assert self.qcfs is not None, "it is called once, when the images are run"
        return self.qcfs.eval()


def _calibrated(module: nn.Module, quanta: int) -> fx.GraphModule:
    """The module with a calibration in place of every call of a ReLU."""
    found = find_activations(module)
    names = {name for name, _ in module.named_modules()}
    for node in found.relus:
        name = _new_name(node, names)
        names.add(name)
        found.root.get_submodule("module").add_module(
            name, _Calibration(describe_place(found.root, node), quanta)
        )
        operand = node.all_input_nodes[0]
        with found.graph.inserting_after(node):
            call = found.graph.call_module(f"module.{name}", (operand,))
        node.replace_all_uses_with(call)
        found.graph.erase_node(node)
    for node in found.graph.nodes:
        # Names of the user's own module, not of the one around it.
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("module.")
        elif node.op == "call_method" and node.target == "view":
            node.target = "reshape"  # a spiking network's maps are not contiguous
    return fx.GraphModule(module, found.graph)


def _new_name(node: fx.Node, names: set[str]) -> str:
    """A name for the neurons: that of the ReLU's module, or ``relu``, with a number where it is taken."""
    base = str(node.target).rpartition(".")[2] if node.op == "call_module" else "relu"
    base = base if base.isidentifier() else f"relu{base}"
    name, number = f"{base}_neuron", 2
    while name in names:
        name, number = f"{base}_neuron{number}", number + 1
    return name


def _check_kept(field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        shown = " or ".join(str(each) for each in allowed)
        raise ValueError(f"{field} must be {shown} for conversion, not {value}")
