"""The folded network: layers of integer weights with float scales and biases, in front of their rounding.

It stands between the passes that read a PyTorch network (:func:`~lmht.gen.fold_batch_norm.fold_batch_norm`,
:func:`~lmht.gen.capture.capture`) and those that make integers of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lmht.gen.integer import PIXEL_MAX
from lmht.model import LMHT
from lmht.model.checks import check_integer, check_number, check_positive
from lmht.rtl.projection import IMAGE, Pooling

__all__ = [
    "BinaryExpansion",
    "ChannelChange",
    "FloatArray",
    "FoldedLayer",
    "FoldedNetwork",
    "FoldedNeuron",
    "FoldedProjection",
]

FloatArray = NDArray[np.float64]
Pair = tuple[int, int]
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedNeuron:
    """The neurons of a layer as trained (MODEL.md): L, T, θ, ``v[-1]`` (absolute as θ is, not a multiple of it), Ω of
    shape (T, T), and λ of every step."""

    levels: int
    steps: int
    theta: float
    initial_membrane: float
    mixing: FloatArray
    leak: FloatArray

    @classmethod
    def of(cls, neuron: LMHT) -> FoldedNeuron:
        """The numbers of trained neurons.

        Raises
        ------
        TypeError, ValueError
            If one, which may have been set since the neurons were made, is none or outside its range.
        """
        mixing = neuron.mixing_matrix().detach().cpu().double().numpy()
        if not np.isfinite(mixing).all():
            raise ValueError(f"mixing must be finite, not {mixing[~np.isfinite(mixing)][0]}")
        leak = check_number("leak", neuron.leak().detach())
        if not 0 <= leak <= 1.5:
            raise ValueError(f"leak must be between 0 and 1.5, not {leak:g}")
        return cls(
            levels=check_integer("levels", neuron.levels, 1),
            steps=check_integer("steps", neuron.steps, 1),
            theta=check_positive("theta", neuron.theta),
            initial_membrane=check_number("initial_membrane", neuron.initial_membrane),
            mixing=mixing,
            leak=np.full(neuron.steps, leak),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedProjection:
    """A convolution without batch norm: ``scale[n] * conv(weights, pooled input)[n]``.

    An average pooling is the sum over the window here; its division belongs to the value of an input level
    (:meth:`FoldedNetwork.input_value`). A fully connected layer has a kernel that covers the whole map.

    Parameters
    ----------
    source : int
        Index of the layer that feeds it, or :data:`~lmht.rtl.projection.IMAGE`.
    input_shape : tuple of int
        Channels, height and width of the source's map, before pooling.
    weights : numpy.ndarray of int64, shape (N, C / groups, KH, KW)
        Signed integers of `weight_bits` bits.
    scale : numpy.ndarray of float64, shape (N,)
        Value of one integer step, at least 0.
    weight_bits : int
    stride, padding, groups
        As in :func:`torch.nn.functional.conv2d`.
    pooling : Pooling or None
        Of the source's levels, before the convolution.
    """

    source: int
    input_shape: Shape
    weights: NDArray[np.int64]
    scale: FloatArray
    weight_bits: int
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    pooling: Pooling | None = None

    @property
    def pooled_shape(self) -> Shape:
        """Channels, height and width of the map that the kernel sees."""
        channels, *size = self.input_shape
        return self.input_shape if self.pooling is None else (channels, *self.pooling.pooled(*size))

    @property
    def input_channels(self) -> NDArray[np.int64]:
        """Channel of the input behind every weight ``[n, j]``, shape (N, C / groups)."""
        outputs, members = self.weights.shape[:2]
        group = np.arange(outputs) // (outputs // self.groups)
        return group[:, None] * members + np.arange(members)

    @property
    def output_shape(self) -> Shape:
        """Channels, height and width of the output map."""
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                self.pooled_shape[1:], self.padding, self.weights.shape[2:], self.stride, strict=True
            )
        )
        return len(self.weights), height, width


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedLayer:
    """Projections whose currents are added, a bias, and neurons.

    Parameters
    ----------
    projections : tuple of FoldedProjection
        One or two, with the same output map; the second one is the residual branch.
    bias : numpy.ndarray of float64, shape (N,)
        Added at every step.
    neuron : FoldedNeuron or None
        None in the classifier.
    name : str
        Name of the neurons in the PyTorch network (of the linear layer, in the classifier); empty if it has none.
    headroom_bits : int
        Bits that the layer's multipliers get beyond the usual ones, so that a clamped channel, whose scale is the
        largest, does not take bits from the others.
    """

    projections: tuple[FoldedProjection, ...]
    bias: FloatArray
    neuron: FoldedNeuron | None
    name: str = ""
    headroom_bits: int = 0


class ChannelChange(BaseModel):
    """What :func:`~lmht.gen.balance_scales.balance_scales` changed in a channel.

    Attributes
    ----------
    layer, channel : int
    reason : str
        What was found and done, in words.
    gain_before, gain_after : float
        Current of one unit of the changed input's sum of products, in thresholds.
    bias_before, bias_after : float
        In thresholds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    layer: int
    channel: int
    reason: str
    gain_before: float
    gain_after: float
    bias_before: float
    bias_after: float


@dataclass(frozen=True, kw_only=True)
class BinaryExpansion:
    """Levels L and steps T that all neurons had before they became L T binary steps."""

    levels: int
    steps: int

    @property
    def finer_bits(self) -> int:
        """Fraction bits that the L-th part of a current needs more; it is exact if L is a power of two."""
        return (self.levels - 1).bit_length()


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedNetwork:
    """Layers in an order in which each comes after its sources, the classifier last; `input_shape` is
    (channels, height, width), `expansion` what the neurons were before
    :func:`~lmht.gen.expand_binary.expand_binary`, if they were something else, and `changes` the channels that
    :func:`~lmht.gen.balance_scales.balance_scales` changed."""

    input_shape: Shape
    layers: tuple[FoldedLayer, ...]
    expansion: BinaryExpansion | None = None
    changes: tuple[ChannelChange, ...] = ()

    def source_neuron(self, projection: FoldedProjection) -> FoldedNeuron | None:
        """The neurons that feed a projection; None where the image does."""
        if projection.source == IMAGE:
            return None
        neuron = self.layers[projection.source].neuron
        assert neuron is not None, "the classifier feeds nothing"
        return neuron

    def input_value(self, projection: FoldedProjection) -> float:
        """``θ_in``: value of one level of the input; 1/255 for pixels, divided by the window of a sum pooling."""
        neuron = self.source_neuron(projection)
        value = 1 / PIXEL_MAX if neuron is None else neuron.theta
        pooling = projection.pooling
        return value / pooling.window if pooling is not None and pooling.kind == "sum" else value
