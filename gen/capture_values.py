"""What flows between the layers of a captured network: spikes of a source, or currents on their way to neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lmht.gen.folded import FoldedLayer, FoldedProjection
from lmht.rtl.projection import IMAGE, Pooling

__all__ = ["CaptureError", "Currents", "Spikes", "UnmappedError", "Value"]

Shape = tuple[int, int, int]


class CaptureError(ValueError):
    """A network cannot be mapped to hardware; one line names the module, its type, why, and what would be accepted."""


class UnmappedError(ValueError):
    """Why an operation cannot be mapped; :class:`CaptureError` says the same with the place in front."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spikes:
    """Pixels of the image or spikes of a layer, as they are or pooled.

    Parameters
    ----------
    source : int
        Index of the layer, or :data:`~lmht.rtl.projection.IMAGE`.
    source_shape : tuple of int
        Channels, height and width of the source's map.
    pooling : Pooling or None
        What it went through since.
    flat : bool
        Whether the map of an image has been flattened to a vector.
    """

    source: int
    source_shape: Shape
    pooling: Pooling | None = None
    flat: bool = False

    @property
    def shape(self) -> Shape:
        """Channels, height and width, before any flattening."""
        channels, *size = self.source_shape
        return self.source_shape if self.pooling is None else (channels, *self.pooling.pooled(*size))

    @property
    def is_timeless(self) -> bool:
        """Whether it is the same at every step of the window."""
        return self.source == IMAGE

    def pooled(self, kind: Literal["sum", "max"], size: tuple[int, int]) -> Spikes:
        """Behind another pooling.

        Raises
        ------
        UnmappedError
            If it does not combine with the pooling before it, or needs neurons in front.
        """
        if size == (1, 1):
            return self
        if kind == "max" and self.source == IMAGE:
            raise UnmappedError(
                "max pooling of the image is not mapped; pool the spikes of neurons, or take the average"
            )
        if self.pooling is not None:
            if self.pooling.kind != kind:
                raise UnmappedError(
                    "average and max pooling in a row are not mapped; use one kind, or neurons in between"
                )
            size = (self.pooling.size[0] * size[0], self.pooling.size[1] * size[1])
        return replace(self, pooling=Pooling(kind=kind, size=size))

    def as_currents(self) -> Currents:
        """The spikes themselves as currents: a weight of 1 from every neuron to the one in its place."""
        channels = self.source_shape[0]
        identity = FoldedProjection(
            source=self.source,
            input_shape=self.source_shape,
            weights=np.ones((channels, 1, 1, 1), dtype=np.int64),
            scale=np.ones(channels),
            weight_bits=2,
            groups=channels,
            pooling=self.pooling,
        )
        layer = FoldedLayer(projections=(identity,), bias=np.zeros(channels), neuron=None)
        return Currents(layer=layer, flat=self.flat, is_weighted=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Currents:
    """Input currents of neurons, or logits.

    Parameters
    ----------
    layer : FoldedLayer
        What computes them; without neurons.
    flat : bool
        Whether the map of an image has been flattened to a vector.
    is_weighted : bool
        Whether the first projection comes from a convolution or linear layer, not from spikes as they are.
    """

    layer: FoldedLayer
    flat: bool
    is_weighted: bool

    @property
    def shape(self) -> Shape:
        """Channels, height and width, before any flattening."""
        return self.layer.projections[0].output_shape

    @property
    def is_timeless(self) -> bool:
        """Whether they are the same at every step of the window."""
        return self.layer.projections[0].source == IMAGE


Value = Spikes | Currents
