"""What the compile report and the manifest say about a layer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lmht.gen.estimate import Estimate
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["LayerRecord", "describe_layer"]


class LayerRecord(BaseModel):
    """One layer: sizes, widths in bits, and expected work for an average image.

    Attributes
    ----------
    shape : tuple of int
        Channels, height and width of the map, before its own pooling.
    inputs : tuple of tuple of int
        Channels, height and width of the map that each input's kernel sees.
    kernel, stride : tuple of int
        Rows and columns, of the first input.
    tiles, lanes, groups : int
        Tiles, lanes per tile, and groups of lanes in the largest tile.
    update_lanes, mix_multipliers : int
        Neurons updated at a time in a tile, and multipliers for each.
    tap_unroll : bool
        All taps of an event are integrated at once.
    weight_bits, accumulator_bits, mix_bits, current_bits, membrane_bits : int
        ``WB`` (the widest), ``AB``, before and after the shift, ``MB`` (0 for a classifier).
    kept_rows : int
        Rows of the map that have accumulators.
    accumulator_memory_bits, map_accumulator_bits : int
        Of these rows in all tiles, and what the whole map would take.
    fifo_words : int
        Words of the FIFOs in front, in all tiles.
    memory_bits : int
        All loadable memories of the layer.
    expected_events : float
        Events into the layer, over all inputs.
    integration_cycles, update_cycles, encoder_cycles : float
        Expected work of its slowest tile per image: synapse lanes, neuron array, spike encoder.
    utilization : float
        Largest of the three over the expected cycles per image, 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    shape: tuple[int, int, int]
    inputs: tuple[tuple[int, int, int], ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    tiles: int
    lanes: int
    groups: int
    update_lanes: int
    mix_multipliers: int
    tap_unroll: bool
    weight_bits: int
    accumulator_bits: int
    mix_bits: int
    current_bits: int
    membrane_bits: int
    kept_rows: int
    accumulator_memory_bits: int
    map_accumulator_bits: int
    fifo_words: int
    memory_bits: int
    expected_events: float
    integration_cycles: float
    update_cycles: float
    encoder_cycles: float
    utilization: float

    @property
    def is_dense(self) -> bool:
        """Whether the layer is fully connected: one pixel, whose kernel covers the map."""
        return self.shape[1:] == (1, 1) and all(shape[1:] == self.kernel for shape in self.inputs)

    @property
    def notation(self) -> str:
        """``784-128``, or ``32x28x28 3x3/2 64x14x14`` for a convolution."""

        def size(shape: tuple[int, int, int]) -> str:
            return "x".join(str(part) for part in shape)

        if self.is_dense:
            channels, height, width = self.inputs[0]
            return f"{channels * height * width}-{self.shape[0]}"
        stride = f"/{self.stride[0]}" if self.stride != (1, 1) else ""
        return f"{size(self.inputs[0])} {self.kernel[0]}x{self.kernel[1]}{stride} {size(self.shape)}"


def describe_layer(tiles: tuple[TileParameters, ...], estimate: Estimate, events: float) -> LayerRecord:
    """The record of a layer; `events` are those expected on all its inputs."""
    largest = max(tiles, key=lambda tile: tile.channels)
    neuron, first = largest.neuron, largest.projections[0]
    lane_bits = neuron.accumulator_bits * neuron.input_steps
    cycles = [
        max(estimate.stages[tile.name + part] for tile in tiles) for part in ("", "_update", "_encoder")
    ]
    return LayerRecord(
        shape=(largest.layer_channels, largest.height, largest.width),
        inputs=tuple((p.input.channels, *p.pooled) for p in largest.projections),
        kernel=first.kernel,
        stride=first.stride,
        tiles=len(tiles),
        lanes=largest.lanes,
        groups=largest.groups,
        update_lanes=largest.update_lanes,
        mix_multipliers=largest.mix_multipliers,
        tap_unroll=largest.tap_unroll,
        weight_bits=max(projection.weight_bits for projection in largest.projections),
        accumulator_bits=neuron.accumulator_bits,
        mix_bits=neuron.mix_bits,
        current_bits=neuron.current_bits,
        membrane_bits=0 if neuron.is_classifier else neuron.membrane_bits,
        kept_rows=largest.banks,
        accumulator_memory_bits=sum(tile.banks * tile.bank_rows * tile.lanes * lane_bits for tile in tiles),
        map_accumulator_bits=sum(tile.height * tile.bank_rows * tile.lanes * lane_bits for tile in tiles),
        fifo_words=sum(projection.fifo for tile in tiles for projection in tile.projections),
        memory_bits=sum(shape.width * shape.depth for tile in tiles for shape in tile.memories.values()),
        expected_events=round(events, 3),
        integration_cycles=round(cycles[0], 3),
        update_cycles=round(cycles[1], 3),
        encoder_cycles=round(cycles[2], 3),
        utilization=round(max(cycles) / estimate.cycles_per_frame, 4),
    )
