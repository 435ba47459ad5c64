"""Elaboration parameters of a tile: one layer, or a slice of its output channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from amaranth.utils import bits_for

from lmht.rtl.checks import check_choice, check_range
from lmht.rtl.events import EventLayout
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import Pooling, ProjectionParameters

__all__ = ["TileParameters"]

WEIGHT_MEMORIES = ("weights", "residual_weights")
MOST_SELECTED = 2
"""Up to such a level a product is chosen, not multiplied (:attr:`TileParameters.selects_products`)."""


@dataclass(frozen=True, kw_only=True)
class TileParameters:
    """One tile: a layer (convolution or Linear) or a slice of its output channels.

    Parameters
    ----------
    name : str
        Unique in the design, a Verilog identifier such as ``layer0_tile0``.
    layer : int
        Index of the layer the tile belongs to.
    projections : tuple of ProjectionParameters
        Its inputs, one or two: all are added in the same accumulators. The second one is the residual branch.
    layer_channels : int
        Output channels of the whole layer.
    channel_offset, channels : int
        This tile's slice: global channels ``channel_offset … channel_offset + channels - 1``.
    lanes : int
        Output channels updated per cycle and tap of an event, 1 … 128.
    neuron : NeuronParameters
    update_lanes : int
        Neurons the neuron array takes at a time; divides `lanes`.
    mix_multipliers : int
        Multipliers per update lane: 1, ``T_in`` or ``T T_in``; 1 or ``T`` if the mixing is diagonal. A neuron takes
        ``T T_in / mix_multipliers`` cycles, or ``T / mix_multipliers``.
    pooling : Pooling or None
        Pooling of the tile's own output levels.
    skip_quiet : bool
        Pixels that no event has touched are not updated where their levels are known to be 0.
    constant_events : bool
        Pixels that no event has touched, but whose levels are not all 0, send these from a table; otherwise they are
        updated as zeros. Only with `skip_quiet`.
    tap_unroll : bool
        All taps of an event are integrated in one cycle for each group of lanes, not one tap a cycle.
    """

    name: str
    layer: int
    projections: tuple[ProjectionParameters, ...]
    layer_channels: int
    channel_offset: int
    channels: int
    lanes: int
    neuron: NeuronParameters
    update_lanes: int = 1
    mix_multipliers: int = 1
    pooling: Pooling | None = None
    skip_quiet: bool = True
    constant_events: bool = False
    tap_unroll: bool = False

    def __post_init__(self) -> None:
        check_range("projections", len(self.projections), 1, len(WEIGHT_MEMORIES))
        check_range("channels", self.channels, 1, 65536)
        check_range("channel_offset", self.channel_offset, 0, self.layer_channels - self.channels)
        check_range("lanes", self.lanes, 1, 128)
        check_range("update_lanes", self.update_lanes, 1, self.lanes)
        if self.lanes % self.update_lanes:
            raise ValueError(f"update_lanes must divide lanes ({self.lanes}), not {self.update_lanes}")
        check_choice("mix_multipliers", self.mix_multipliers, self.neuron.mix_choices)
        for projection in self.projections:
            if projection.input.steps != self.neuron.input_steps:
                raise ValueError(
                    f"input.steps must be input_steps ({self.neuron.input_steps}), not {projection.input.steps}"
                )
            if projection.output != self.projections[0].output:
                raise ValueError(
                    f"projections must have one output map, not {projection.output} beside "
                    f"{self.projections[0].output}"
                )
            if self.layer_channels % projection.channel_groups:
                raise ValueError(
                    f"channel_groups must divide the {self.layer_channels} output channels, "
                    f"not {projection.channel_groups}"
                )
        if self.neuron.is_classifier and ((self.height, self.width) != (1, 1) or self.pooling is not None):
            raise ValueError("a classifier has one output pixel and no pooling")
        if self.constant_events and (self.neuron.is_classifier or not self.skip_quiet):
            raise ValueError("constant_events must be False for a classifier, and without skip_quiet")
        if self.pooling is not None and 0 in self.pooling.pooled(self.height, self.width):
            raise ValueError(
                f"pooling window must fit the {self.height} x {self.width} map, not be {self.pooling.size}"
            )

    @property
    def height(self) -> int:
        """Rows of the layer's own map, before pooling."""
        return self.projections[0].output[0]

    @property
    def width(self) -> int:
        """Columns of the layer's own map, before pooling."""
        return self.projections[0].output[1]

    @property
    def groups(self) -> int:
        """Groups of `lanes` output channels: accumulator rows of a pixel."""
        return -(-self.channels // self.lanes)

    def first_group(self, projection: int, channel: int) -> int:
        """First group of lanes that an event of input `channel` meets, clipped to the tile's slice."""
        first, _ = self._reached(projection, channel)
        return min(max(first - self.channel_offset, 0), self.channels - 1) // self.lanes

    def spans(self, projection: int, channel: int) -> int:
        """Groups of lanes that an event of input `channel` meets; 0 if none of its outputs lies in the slice."""
        first, last = self._reached(projection, channel)
        if last < self.channel_offset or first >= self.channel_offset + self.channels:
            return 0
        last = min(last - self.channel_offset, self.channels - 1)
        return last // self.lanes - self.first_group(projection, channel) + 1

    def _reached(self, projection: int, channel: int) -> tuple[int, int]:
        """First and last output channel of the layer that an input channel is connected to."""
        parts = self.projections[projection].channel_groups
        outputs = self.layer_channels // parts
        part = channel // (self.projections[projection].input.channels // parts)
        return part * outputs, (part + 1) * outputs - 1

    def span(self, projection: int) -> int:
        """Rows of the weight memory for one tap and input channel: the largest of :meth:`spans`."""
        if self.projections[projection].channel_groups == 1:
            return self.groups
        channels = self.projections[projection].input.channels
        return max(1, max(self.spans(projection, channel) for channel in range(channels)))

    @property
    def partial(self) -> bool:
        """Whether an event may touch only some of a pixel's accumulator rows."""
        return self.groups > 1 and any(projection.channel_groups > 1 for projection in self.projections)

    @property
    def banks(self) -> int:
        """Rows of the map that have accumulators: those that can be open, and one more that is updated meanwhile."""
        return max(projection.open_rows for projection in self.projections) + 1

    @property
    def bank_rows(self) -> int:
        """Accumulator rows of a bank: row ``x * groups + group`` holds `lanes` neurons of pixel ``x``."""
        return self.width * self.groups

    @property
    def mix_phases(self) -> int:
        """Cycles one update row spends in the mixing multipliers: all products of a neuron / `mix_multipliers`."""
        return self.neuron.steps * self.neuron.mix_terms // self.mix_multipliers

    @property
    def mix_currents(self) -> int:
        """Currents of a neuron that leave the mixing multipliers at a time."""
        return max(1, self.mix_multipliers // self.neuron.mix_terms)

    @property
    def bias_phases(self) -> int:
        """Rows of biases of one update row: ``T / mix_currents``."""
        return self.neuron.steps // self.mix_currents

    @property
    def row_slots(self) -> int:
        """Update rows in one accumulator row: ``lanes / update_lanes``."""
        return self.lanes // self.update_lanes

    @property
    def update_rows(self) -> int:
        """Update rows of one pixel; row ``r`` holds local neurons ``r * update_lanes …``. None holds only padding."""
        return -(-self.channels // self.update_lanes)

    @property
    def update_cycles(self) -> int:
        """Cycles the neuron array is busy with one pixel."""
        return self.update_rows * self.mix_phases

    @property
    def selects_products(self) -> bool:
        """Levels are so small that a product is chosen among 0, the weight and its double, without a multiplier."""
        return all((own.input.max_level or 0) <= MOST_SELECTED for own in self.projections)

    @property
    def output(self) -> EventLayout:
        """Link behind the tile (of the whole layer): levels behind the pooling, or logits for a classifier."""
        if self.neuron.levels is None:
            return EventLayout(
                channels=self.layer_channels, steps=1, level_bits=self.neuron.current_bits, signed=True
            )
        height, width, max_level = self.height, self.width, self.neuron.levels
        if self.pooling is not None:
            height, width = self.pooling.pooled(height, width)
            max_level = self.pooling.max_level(max_level)
        return EventLayout.for_levels(
            height=height,
            width=width,
            channels=self.layer_channels,
            steps=self.neuron.steps,
            max_level=max_level,
        )

    @property
    def constants_fields(self) -> dict[str, tuple[int, int]]:
        """Row of the constants memory as ``{name: (offset, width)}``.

        The fields of :attr:`NeuronParameters.constants_fields`, then ``silent``: 1 if all levels of a pixel without
        any input are 0. Empty for a classifier.
        """
        fields = self.neuron.constants_fields
        if fields:
            fields["silent"] = (sum(width for _, width in fields.values()), 1)
        return fields

    @cached_property
    def memories(self) -> dict[str, MemoryShape]:
        """Loadable memories by name, in the order of their load addresses.

        ``weights``, and ``residual_weights`` for a second projection: row ``((ky * KW + kx) * C_in + c) * span + s``;
        lane ``l`` at bit ``l * WB`` holds ``w[offset + (first_group(c) + s) * lanes + l, c, ky, kx]``, and 0 in lanes
        of padding or of channels that ``c`` is not connected to. With `tap_unroll` row ``c * span + s`` holds all taps:
        lane ``l`` of tap ``ky * KW + kx`` at bit ``((ky * KW + kx) * lanes + l) * WB``.
        ``biases``: row ``r * bias_phases + p``; field ``k * mix_currents + i``, as wide as ``B``, holds ``B[t, n]``
        with ``t = p * mix_currents + i`` of local neuron ``r * update_lanes + k``.
        ``multipliers``: row ``r * mix_phases + p``; field ``k * mix_multipliers + i`` of ``GB`` bits holds
        ``G[t, u, n]`` with ``t * T_in + u = p * mix_multipliers + i`` of local neuron ``r * update_lanes + k``; with
        diagonal mixing ``G[t, n]`` with ``t = p * mix_multipliers + i``.
        ``constants``: one row, :attr:`constants_fields` (absent for a classifier).
        ``quiet_levels``, with `constant_events`: row ``r``; field ``k * T + t`` of as many bits as hold
        ``levels`` is the level ``k[t]`` of local neuron ``r * update_lanes + k`` without any input.
        """
        neuron = self.neuron
        shapes = {}
        for index, projection in enumerate(self.projections):
            wide, deep = (projection.taps, 1) if self.tap_unroll else (1, projection.taps)
            shapes[WEIGHT_MEMORIES[index]] = MemoryShape(
                width=wide * self.lanes * projection.weight_bits,
                depth=deep * projection.input.channels * self.span(index),
            )
        shapes["biases"] = MemoryShape(
            width=self.update_lanes * self.mix_currents * neuron.bias_bits,
            depth=self.update_rows * self.bias_phases,
        )
        shapes["multipliers"] = MemoryShape(
            width=self.update_lanes * self.mix_multipliers * neuron.multiplier_bits,
            depth=self.update_rows * self.mix_phases,
        )
        if not neuron.is_classifier:
            width = sum(width for _, width in self.constants_fields.values())
            shapes["constants"] = MemoryShape(width=width, depth=1)
        if self.constant_events and neuron.levels is not None:
            shapes["quiet_levels"] = MemoryShape(
                width=self.update_lanes * neuron.steps * bits_for(neuron.levels), depth=self.update_rows
            )
        return shapes
