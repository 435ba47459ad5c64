"""Any ``nn.Module`` with LM-HT neurons as a network from images to logits."""

from __future__ import annotations

from functools import partial
from typing import get_args

import torch
from torch import nn

from .checks import check_choice, check_integer
from .hardware import has_hardware_rounding, integers_of, run_as_hardware
from .memory_order import in_best_format
from .network import analog_image, check_pixels
from .readout import read_out
from .spike_fields import Readout, has_output_neurons
from .tracing import line_of_user
from .window_neurons import WindowLMHT

__all__ = ["SpikingNetwork"]


class SpikingNetwork(nn.Module):
    """Spiking network around a module whose neurons are :class:`WindowLMHT`.

    The module sees the image once; what follows its first neurons sees the T steps as a T times larger batch
    (:class:`WindowLMHT`), and the logits are the mean over the steps unless ``readout`` says otherwise. Of frames it
    sees one at each step, so that the batch is T times larger from the start.

    Parameters
    ----------
    module : torch.nn.Module
        From currents of an image, (B, C, H, W), or of frames, (T B, C, H, W), to (T B, classes); its last layer has
        no neurons.
    input_shape : tuple of int
        Channels, height and width of an image or a frame.
    classes : int
        Number of classes, at least 1.
    readout : {"mean", "last-step", "spike-count", "first-to-spike"}
        What of the module's output decides (:func:`~lmht.model.readout.read_out`); for the last two the module ends
        with neurons.
    frames : bool
        Whether an example is T frames rather than an image.

    Attributes
    ----------
    module, input_shape, classes, readout, frames
        As given.
    steps : int
        Steps T of a window, common to all neurons.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the module has no neurons, neurons of different T, or a size is below 1.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        readout: Readout = "mean",
        frames: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, not {module!r}")
        channels, height, width = (check_integer("input_shape", size, 1) for size in input_shape)
        self.module = module
        self.input_shape = (channels, height, width)
        self.classes = check_integer("classes", classes, 1)
        check_choice("readout", readout, get_args(Readout))
        self.readout = readout
        self.frames = frames
        self.steps = self._count_steps()

    def neurons(self) -> dict[str, WindowLMHT]:
        """Neurons by their names in the module, in its order."""
        return {name: part for name, part in self.module.named_modules() if isinstance(part, WindowLMHT)}

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) of an image, or (T, C, H, W) of frames."""
        return (self.steps, *self.input_shape) if self.frames else self.input_shape

    def _count_steps(self) -> int:
        return _common_steps(self.neurons())

    @property
    def peak(self) -> float | None:
        """Largest value that output neurons give, their θ; None without output neurons."""
        return list(self.neurons().values())[-1].theta if has_output_neurons(self.readout) else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify images; with ``fraction_bits`` as hardware does (:func:`~lmht.model.hardware.run_as_hardware`).

        Parameters
        ----------
        images : torch.Tensor, shape (B, C, H, W), or (B, T, C, H, W) with ``frames``
            ``uint8`` from 0 to 255, or floating point from 0 to 1.

        Returns
        -------
        torch.Tensor, shape (B, classes)
            Logits: the mean over the steps of the module's output, or what ``readout`` says.

        Raises
        ------
        ValueError
            If the images or the module's output have another shape, the module calls ``view`` on maps that are not in
            PyTorch's contiguous format, in evaluation mode a pixel lies outside its range, or with ``fraction_bits``
            hardware has not what the module is made of.
        """
        return run_as_hardware(self, images) if has_hardware_rounding(self) else self.run_modules(images)

    def run_modules(self, images: torch.Tensor) -> torch.Tensor:
        """What the module computes in floating point, but for the roundings of its neurons; as :meth:`forward`."""
        if images.dim() == 0 or tuple(images.shape[1:]) != self.example_shape:
            shape = ", ".join(str(size) for size in self.example_shape)
            raise ValueError(f"images must have shape (batch, {shape}), not {tuple(images.shape)}")
        if not self.training:
            check_pixels("images", images)
        batch = images.shape[0]
        for neuron in self.neurons().values():
            neuron.batch = batch
        rows = images.transpose(0, 1).flatten(0, 1) if self.frames else images
        output = self._run(in_best_format(analog_image(rows), self.module))
        if not isinstance(output, torch.Tensor) or output.shape != (self.steps * batch, self.classes):
            found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(
                f"the module's output must have shape {(self.steps * batch, self.classes)}, "
                f"{self.steps} steps of {batch} images and {self.classes} classes, not {found}"
            )
        return read_out(output.unflatten(0, (self.steps, batch)), self.readout)

    def _run(self, currents: torch.Tensor) -> torch.Tensor:
        try:
            return self.module(currents)
        except RuntimeError as error:
            if "view size is not compatible" not in str(error):
                raise
            raise ValueError(
                f"{line_of_user(self.module)}: view cannot make vectors of maps in the channels-last format, in which "
                "a SpikingNetwork computes; use flatten or reshape"
            ) from error

    @torch.no_grad()
    def spike_levels(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Spike levels of all neurons by name, each of int64 and shape (T, B, ...), from 0 to L.

        Images as in :meth:`forward`. Batch norm behaves as the network's mode says; call ``eval()`` before.

        Raises
        ------
        ValueError
            As in :meth:`forward`.
        """
        found: dict[str, torch.Tensor] = {}

        def keep(name: str, neuron: nn.Module, _: object, output: torch.Tensor) -> None:
            assert isinstance(neuron, WindowLMHT)
            levels = torch.round(output / neuron.theta).to(torch.int64)
            found[name] = levels.unflatten(0, (self.steps, -1))

        hooks = [neuron.register_forward_hook(partial(keep, name)) for name, neuron in self.neurons().items()]
        try:
            self.run_modules(images)
        finally:
            for hook in hooks:
                hook.remove()
        if not self.training and has_hardware_rounding(self):
            levels = integers_of(self).spike_levels(images)
            return {name: levels[neuron].view_as(found[name]) for name, neuron in self.neurons().items()}
        return found


def _common_steps(neurons: dict[str, WindowLMHT]) -> int:
    if not neurons:
        raise ValueError("module must have neurons (WindowLMHT), and has none")
    first, *others = neurons.items()
    for name, neuron in others:
        if neuron.steps != first[1].steps:
            raise ValueError(
                f"all neurons must have the same number of steps, not {first[1].steps} in {first[0]!r} "
                f"and {neuron.steps} in {name!r}"
            )
    return first[1].steps
