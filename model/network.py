"""Fully connected spiking network: quantized linear layers, batch norm and LM-HT neurons."""

from itertools import pairwise

import torch
from torch import nn

from .coding import BernoulliCoding, make_coding
from .config import NetworkConfig
from .hardware import has_hardware_rounding, integers_of, run_as_hardware
from .neurons import LMHT, QCFS
from .normalization import TimeBatchNorm
from .quantization import QuantLinear
from .readout import read_out
from .spike_fields import has_output_neurons

__all__ = ["Layer", "Network", "QCFSLayer", "analog_image", "check_pixels"]


def analog_image(images: torch.Tensor) -> torch.Tensor:
    """Pixels as currents: ``uint8`` is divided by 255; floating point is taken as it is, from 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def check_pixels(field: str, images: torch.Tensor) -> None:
    """Refuse images that hardware could not be given: neither ``uint8`` nor floating point from 0 to 1.

    Raises
    ------
    ValueError
        If they have another type, or a value outside the range (such as grey levels that were not divided by 255).
    """
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ValueError(f"{field} must be of uint8, or floating point from 0 to 1, not of {images.dtype}")
    if images.numel() == 0:
        return
    low, high = (end.item() for end in images.aminmax())
    if not (low >= 0 and high <= 1):  # also if there is a NaN
        found = high if low >= 0 else low
        raise ValueError(f"{field} of floating point must be between 0 and 1, not {found:g}: divide by 255")


class Layer(nn.Module):
    """One layer: weights, then batch norm and neurons if it is hidden.

    Attributes
    ----------
    linear : QuantLinear
        Weights; with a bias in the last layer only.
    norm : TimeBatchNorm or None
        Batch norm of a hidden layer.
    neuron : LMHT or None
        Neurons of a hidden layer.
    """

    def __init__(self, linear: QuantLinear, norm: TimeBatchNorm | None, neuron: LMHT | None) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.neuron = neuron

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Run the window: (T_in, batch, J) to (T, batch, N).

        ``T_in`` is T, or 1 for an input that is the same at every step: its current is computed once and
        repeated. The last layer, without neurons, keeps ``T_in``.
        """
        current = self.linear(value)
        if self.norm is not None:
            current = self.norm(current)
        if self.neuron is None:
            return current
        return self.neuron(current.expand(self.neuron.steps, *current.shape[1:]))


class QCFSLayer(nn.Module):
    """Hidden layer of a QCFS network: weights, batch norm and QCFS, without a window of steps.

    Attributes
    ----------
    linear : QuantLinear
        Weights, without a bias.
    norm : TimeBatchNorm
        Batch norm.
    activation : QCFS
        Activation with its learned upper end.
    """

    def __init__(self, linear: QuantLinear, norm: TimeBatchNorm, activation: QCFS) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.activation = activation

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """One pass: (1, batch, J) to (1, batch, N)."""
        return self.activation(self.norm(self.linear(value)))


class Network(nn.Module):
    """Network of ``config``, with fresh weights.

    Every hidden layer is ``QuantLinear`` (no bias), ``TimeBatchNorm`` and ``LMHT``, or ``QCFS`` with that
    activation; the last one is ``QuantLinear`` with a bias, or as the others where the spikes of output neurons
    are read. The first layer sees the analog image once, its spikes at every step, or a frame at each.

    Parameters
    ----------
    config : NetworkConfig
        Widths, neurons and weight width.

    Attributes
    ----------
    config : NetworkConfig
        As given.
    layers : torch.nn.ModuleList of Layer, or of QCFSLayer in the hidden layers of a QCFS network
        From the image to the classes.
    coding : LMHT, BernoulliCoding or None
        What makes spikes of the image.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.coding = make_coding(config.coding, config.steps, config.fraction_bits)
        widths = config.widths
        last = len(widths) - 2
        self.layers = nn.ModuleList()
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            is_bare = index == last and not has_output_neurons(config.readout)
            linear = QuantLinear(inputs, outputs, bias=is_bare, weight_bits=config.weight_bits)
            if is_bare:
                self.layers.append(Layer(linear, None, None))
            elif config.activation == "qcfs":
                activation = QCFS(config.qcfs_levels, config.threshold)
                self.layers.append(QCFSLayer(linear, TimeBatchNorm(outputs), activation))
            else:
                self.layers.append(Layer(linear, TimeBatchNorm(outputs), self._make_neuron(config, index)))

    @staticmethod
    def _make_neuron(config: NetworkConfig, layer: int) -> LMHT:
        theta, membrane = config.neuron_settings(layer)
        return LMHT(
            config.levels,
            config.steps,
            theta,
            membrane,
            mixing=config.mixing,
            leak=config.leak,
            fraction_bits=config.fraction_bits,
            detach=config.detach,
        )

    @property
    def peak(self) -> float | None:
        """Largest value that output neurons give, their θ; None without output neurons."""
        return self.config.threshold if has_output_neurons(self.config.readout) else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify images; with ``fraction_bits`` as hardware does (:func:`~lmht.model.hardware.run_as_hardware`).

        Parameters
        ----------
        images : torch.Tensor, shape (batch, C, H, W) or (batch, C * H * W)
            ``uint8`` from 0 to 255, or floating point from 0 to 1. With coding ``frames`` (batch, T, ...).

        Returns
        -------
        torch.Tensor, shape (batch, classes)
            Logits: the mean over the steps of the last layer's output, or what the configuration's ``readout`` says.

        Raises
        ------
        ValueError
            If the images have another shape, in evaluation mode a pixel lies outside its range, or with
            ``fraction_bits`` hardware has not what the network is made of.
        """
        return run_as_hardware(self, images) if has_hardware_rounding(self) else self.run_modules(images)

    def run_modules(self, images: torch.Tensor) -> torch.Tensor:
        """What the layers compute in floating point, but for the roundings of their neurons; as :meth:`forward`."""
        value = self._as_input(images)
        for layer in self.layers:
            value = layer(value)
        return read_out(value, self.config.readout)

    @torch.no_grad()
    def spike_levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Spike levels of every hidden layer, each of int64 and shape (T, batch, N), from 0 to ``levels``.

        Images as in :meth:`forward`. Batch norm behaves as the network's mode says; call ``eval()`` before.

        Raises
        ------
        ValueError
            If the network is a QCFS one, which has no spikes, or the images have another shape.
        """
        if self.config.activation == "qcfs":
            raise ValueError("activation must be lmht for spikes, not qcfs: convert the network first")
        if not self.training and has_hardware_rounding(self):
            found = integers_of(self).spike_levels(images)
            neurons = (layer.neuron for layer in self.layers)
            return [found[neuron].flatten(2) for neuron in neurons if isinstance(neuron, LMHT)]
        levels = []
        value = self._as_input(images)
        for layer in self.layers:
            value = layer(value)
            if isinstance(layer.neuron, LMHT):
                levels.append(torch.round(value / layer.neuron.theta).to(torch.int64))
        return levels

    def _as_input(self, images: torch.Tensor) -> torch.Tensor:
        frames = (self.config.steps,) if self.config.coding == "frames" else ()
        kept = 1 + len(frames)
        flat = analog_image(images).flatten(kept) if images.dim() > kept else images
        if flat.shape[1:] != (*frames, self.config.widths[0]):
            shape = ", ".join(str(size) for size in (*frames, *self.config.input_shape))
            raise ValueError(f"images must have shape (batch, {shape}), not {tuple(images.shape)}")
        if not self.training:
            check_pixels("images", images)
        if frames:
            return flat.transpose(0, 1)
        if isinstance(self.coding, BernoulliCoding):
            return self.coding(flat).unflatten(0, (self.config.steps, len(flat)))
        if self.coding is not None:
            return self.coding(flat.expand(self.config.steps, *flat.shape))
        return flat.unsqueeze(0)
