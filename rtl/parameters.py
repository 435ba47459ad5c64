"""Elaboration parameters: one frozen object goes through planner, RTL, golden checks, test benches and C header."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from amaranth.utils import bits_for

from lmht.rtl.checks import check_choice, check_range
from lmht.rtl.events import EventLayout

__all__ = ["DesignParameters", "FrameParameters", "MemoryShape", "NeuronParameters", "TileParameters"]


@dataclass(frozen=True, kw_only=True)
class MemoryShape:
    """A memory (or table of registers) that the configuration bus loads: `depth` rows of `width` bits."""

    width: int
    depth: int

    @property
    def row_bits(self) -> int:
        """Address width in bits, at least 1."""
        return max(1, bits_for(self.depth - 1))


@dataclass(frozen=True, kw_only=True)
class FrameParameters:
    """Dense input frames of unsigned bytes in ``(y, x, channel)`` order, ``bytes_per_beat`` at a time."""

    height: int
    width: int
    channels: int
    bytes_per_beat: int = 8

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            check_range(name, getattr(self, name), 1, 65536)
        check_choice("bytes_per_beat", self.bytes_per_beat, (1, 2, 4, 8, 16))

    @property
    def frame_bytes(self) -> int:
        return self.height * self.width * self.channels

    @property
    def beats(self) -> int:
        """Beats of one frame; unused bytes of the last beat are ignored."""
        return -(-self.frame_bytes // self.bytes_per_beat)

    @property
    def layout(self) -> EventLayout:
        """The link behind the frame encoder: one level field of 8 bits, sent once (``T_in = 1``)."""
        return EventLayout.for_levels(
            height=self.height, width=self.width, channels=self.channels, steps=1, max_level=255
        )


@dataclass(frozen=True, kw_only=True)
class NeuronParameters:
    """What NUMERICS.md fixes for one layer, apart from the loadable numbers.

    Parameters
    ----------
    input_steps : int
        Level fields of an input event, ``T_in`` (1 for an analog image), 1 … 8.
    steps : int
        Time steps ``T`` of the layer's own levels, 1 … 8; 1 for a classifier.
    levels : int or None
        Threshold levels ``L``, 1 … 15; ``None`` for a classifier (no neuron: the mixed sum itself is the logit).
    accumulator_bits : int
        ``AB``, of ``A[u, n]`` with and without its bias, two's complement.
    multiplier_bits : int
        ``GB``, unsigned.
    shift : int
        ``S``; 0 for a classifier.
    mix_bits : int
        Width of ``sum_u G A`` before the shift, two's complement.
    current_bits : int
        Width of ``J`` after the shift, two's complement; equal to `mix_bits` for a classifier (the logit).
    membrane_bits : int
        ``MB``, of ``m`` and ``v``, two's complement (ignored by a classifier).
    fraction_bits : int
        ``F``.
    leak : bool
        False if every ``λ`` is 1: the leak is the identity and costs nothing.
    leak_bits : int
        ``FL``; a leak factor ``q[t]`` has ``FL + 1`` bits.
    """

    input_steps: int
    steps: int
    levels: int | None
    accumulator_bits: int
    multiplier_bits: int
    shift: int
    mix_bits: int
    current_bits: int
    membrane_bits: int = 1
    fraction_bits: int = 8
    leak: bool = False
    leak_bits: int = 8

    def __post_init__(self) -> None:
        check_range("input_steps", self.input_steps, 1, 8)
        check_range("steps", self.steps, 1, 8)
        if self.levels is not None:
            check_range("levels", self.levels, 1, 15)
        check_range("accumulator_bits", self.accumulator_bits, 1, 48)
        check_range("multiplier_bits", self.multiplier_bits, 1, 24)
        check_range("shift", self.shift, 0, 63)
        check_range("mix_bits", self.mix_bits, 1, 80)
        check_range("current_bits", self.current_bits, 1, 80)
        check_range("membrane_bits", self.membrane_bits, 1, 80)
        check_range("fraction_bits", self.fraction_bits, 0, 24)
        check_range("leak_bits", self.leak_bits, 1, 16)
        if self.is_classifier and (self.steps != 1 or self.shift != 0):
            raise ValueError("a classifier has steps 1 and shift 0")

    @property
    def is_classifier(self) -> bool:
        return self.levels is None

    @property
    def constants_fields(self) -> dict[str, tuple[int, int]]:
        """Row of the constants memory as ``{name: (offset, width)}``: ``v0`` and, with a leak, ``q0`` … ``q{T-1}``.

        Empty for a classifier, which has no constants memory.
        """
        if self.is_classifier:
            return {}
        fields = {"v0": (0, self.membrane_bits)}
        if self.leak:
            width = self.leak_bits + 1
            for step in range(self.steps):
                fields[f"q{step}"] = (self.membrane_bits + step * width, width)
        return fields


@dataclass(frozen=True, kw_only=True)
class TileParameters:
    """One tile: a Linear layer or a slice of its output channels.

    Parameters
    ----------
    name : str
        Unique in the design, a Verilog identifier such as ``layer0_tile0``.
    layer : int
        Index of the layer the tile belongs to.
    input : EventLayout
        Link that feeds it.
    layer_channels : int
        Output channels of the whole layer.
    channel_offset, channels : int
        This tile's slice: global channels ``channel_offset … channel_offset + channels - 1``.
    lanes : int
        Output channels updated per cycle and event, 1 … 128.
    weight_bits : int
        ``WB``, 2 … 8.
    neuron : NeuronParameters
    update_lanes : int
        Neurons the neuron array takes at a time; divides `lanes`.
    mix_multipliers : int
        Multipliers per update lane: 1, ``T_in`` or ``T T_in``. A neuron takes ``T T_in / mix_multipliers`` cycles.
    """

    name: str
    layer: int
    input: EventLayout
    layer_channels: int
    channel_offset: int
    channels: int
    lanes: int
    weight_bits: int
    neuron: NeuronParameters
    update_lanes: int = 1
    mix_multipliers: int = 1

    def __post_init__(self) -> None:
        check_range("channels", self.channels, 1, 65536)
        check_range("channel_offset", self.channel_offset, 0, self.layer_channels - self.channels)
        check_range("lanes", self.lanes, 1, 128)
        check_range("weight_bits", self.weight_bits, 2, 8)
        check_range("update_lanes", self.update_lanes, 1, self.lanes)
        if self.lanes % self.update_lanes:
            raise ValueError(f"update_lanes must divide lanes ({self.lanes}), not {self.update_lanes}")
        products = self.neuron.steps * self.neuron.input_steps
        check_choice("mix_multipliers", self.mix_multipliers, (1, self.neuron.input_steps, products))
        if self.input.steps != self.neuron.input_steps:
            raise ValueError(
                f"input.steps must be input_steps ({self.neuron.input_steps}), not {self.input.steps}"
            )

    @property
    def groups(self) -> int:
        """Cycles one event integrates: groups of `lanes` output channels."""
        return -(-self.channels // self.lanes)

    @property
    def mix_phases(self) -> int:
        """Cycles one update row spends in the mixing multipliers: ``T T_in / mix_multipliers``."""
        return self.neuron.steps * self.neuron.input_steps // self.mix_multipliers

    @property
    def row_slots(self) -> int:
        """Update rows in one accumulator row: ``lanes / update_lanes``."""
        return self.lanes // self.update_lanes

    @property
    def update_rows(self) -> int:
        """Update rows of one frame; row ``r`` holds local neurons ``r * update_lanes …``. None holds only padding."""
        return -(-self.channels // self.update_lanes)

    @property
    def update_cycles(self) -> int:
        """Cycles the neuron array is busy with one frame."""
        return self.update_rows * self.mix_phases

    @property
    def output(self) -> EventLayout:
        """Link behind the tile (of the whole layer): levels, or logits for a classifier."""
        if self.neuron.levels is None:
            return EventLayout(
                channels=self.layer_channels, steps=1, level_bits=self.neuron.current_bits, signed=True
            )
        return EventLayout.for_levels(
            channels=self.layer_channels, steps=self.neuron.steps, max_level=self.neuron.levels
        )

    @cached_property
    def memories(self) -> dict[str, MemoryShape]:
        """Loadable memories by name, in the order of their load addresses.

        ``weights``: row ``j * groups + g``; lane ``l`` at bit ``l * WB`` holds ``w[offset + g * lanes + l, j]`` with
        ``j = (y * width + x) * channels + channel`` of the input link; padding lanes hold 0.
        ``biases``: row ``r``; update lane ``k`` at bit ``k * AB`` holds ``b`` of local neuron ``r * update_lanes + k``.
        ``multipliers``: row ``r * mix_phases + p``; field ``k * mix_multipliers + i`` of ``GB`` bits holds
        ``G[t, u, n]`` with ``t * T_in + u = p * mix_multipliers + i`` of local neuron ``r * update_lanes + k``.
        ``constants``: one row, :attr:`NeuronParameters.constants_fields` (absent for a classifier).
        """
        neuron = self.neuron
        shapes = {
            "weights": MemoryShape(
                width=self.lanes * self.weight_bits, depth=self.input.positions * self.groups
            ),
            "biases": MemoryShape(width=self.update_lanes * neuron.accumulator_bits, depth=self.update_rows),
            "multipliers": MemoryShape(
                width=self.update_lanes * self.mix_multipliers * neuron.multiplier_bits,
                depth=self.update_rows * self.mix_phases,
            ),
        }
        if not neuron.is_classifier:
            width = sum(width for _, width in neuron.constants_fields.values())
            shapes["constants"] = MemoryShape(width=width, depth=1)
        return shapes


@dataclass(frozen=True, kw_only=True)
class DesignParameters:
    """A whole fully connected design: frame encoder, layers of tiles, readout, with an event router before each.

    Parameters
    ----------
    name : str
        Verilog identifier; name of the top module and of the emitted files.
    frame : FrameParameters
    layers : tuple of tuple of TileParameters
        Tiles of each layer; the last layer is the classifier.
    """

    name: str
    frame: FrameParameters
    layers: tuple[tuple[TileParameters, ...], ...]

    def __post_init__(self) -> None:
        if not self.layers or not all(self.layers):
            raise ValueError("layers must hold at least one layer of at least one tile")
        link = self.frame.layout
        for index, tiles in enumerate(self.layers):
            covered = 0
            for tile in tiles:
                if tile.input != link:
                    raise ValueError(f"{tile.name} expects another input than layer {index} receives")
                if tile.channel_offset != covered:
                    raise ValueError(
                        f"{tile.name} must begin at channel {covered}, not {tile.channel_offset}"
                    )
                covered += tile.channels
            if covered != tiles[0].layer_channels:
                raise ValueError(
                    f"the tiles of layer {index} cover {covered} of {tiles[0].layer_channels} channels"
                )
            link = tiles[0].output
        for index, tiles in enumerate(self.layers):
            if any(tile.neuron.is_classifier != (index == len(self.layers) - 1) for tile in tiles):
                raise ValueError("the last layer, and no other, must be a classifier")

    @property
    def tiles(self) -> tuple[TileParameters, ...]:
        """All tiles in order."""
        return tuple(tile for layer in self.layers for tile in layer)

    @property
    def classes(self) -> int:
        return self.layers[-1][0].layer_channels

    @property
    def logit_layout(self) -> EventLayout:
        """Link in front of the readout."""
        return self.layers[-1][0].output

    def canonical_json(self) -> str:
        """The parameters as JSON with sorted keys: equal parameters give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @cached_property
    def design_hash(self) -> str:
        """First 64 bits of SHA-256 over :meth:`canonical_json`, 16 hexadecimal digits. Weights do not enter."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]
