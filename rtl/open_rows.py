"""Which output rows an input row reaches, and when an output row is complete."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.utils import bits_for

from lmht.rtl.event_address import exceeds, is_flat
from lmht.rtl.pipeline import delay
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["OpenRows", "next_bank"]


def next_bank(bank: Value, banks: int) -> Value:
    """Banks are used in turn."""
    return Mux(bank == banks - 1, 0, bank + 1)[: bits_for(banks - 1)]


class OpenRows:
    """Where the current input row of a projection stands in the window of open output rows.

    Row ``y`` of the pooled map meets output row ``r`` through kernel row ``y + P - r S``. The window begins at the
    base, the first output row that is not closed, and holds ``banks - 1`` rows.

    Parameters
    ----------
    m : Module
    parameters : TileParameters
    projection : int
    following_bank : Value
        The bank behind that of the base.
    row_end, close, frame_end : Value
        The current input row ends; the base closes; it closes and is the frame's last row. ``row_end`` comes only while
        the rows fit, and never with ``close``.

    Attributes
    ----------
    bank : Value
        Bank of the lowest output row that the input row reaches.
    rows : Value
        How many output rows above that one it reaches too, a cycle late.
    rows_now : Value
        The same, not late.
    kernel_row : Value
        The kernel row that meets the lowest output row.
    weight_offset : Value
        Weight rows from kernel row 0 to that one.
    fits : Value
        All output rows it reaches lie in the window. (One projection alone always fits once what can close has closed.)
    past : Value
        It does not reach the base any more; a cycle late.
    """

    def __init__(
        self,
        m: Module,
        *,
        parameters: TileParameters,
        projection: int,
        following_bank: Value,
        row_end: Value,
        close: Value,
        frame_end: Value,
    ):
        own = parameters.projections[projection]
        kernel, stride, padding = own.kernel[0], own.stride[0], own.padding[0]
        height, banks = parameters.height, parameters.banks
        prefix = ("", "residual_")[projection]
        row_step = own.kernel[1] * own.input.channels * parameters.span(projection)

        # In row 0 the padding lies above: `first` is the lowest output row that it reaches.
        first = min(padding // stride, height - 1)
        first_kernel_row = padding - first * stride
        last_kernel_row = max(own.pooled[0] - 1 + padding - (height - 1) * stride, stride - 1)
        if is_flat(parameters, projection):
            last_kernel_row = 0
        lowest = Signal(range(min(height, banks)), init=first, name=f"{prefix}lowest")  # from the base
        below = Signal(range(height), init=height - 1 - first, name=f"{prefix}below")  # output rows below it
        kernel_row = Signal(range(last_kernel_row + 1), init=first_kernel_row, name=f"{prefix}kernel_row")
        weight_offset = Signal(
            range(last_kernel_row * row_step + 1),
            init=first_kernel_row * row_step,
            name=f"{prefix}weight_offset",
        )
        bank = Signal(range(banks), init=first, name=f"{prefix}bank")
        with m.If(row_end):
            with m.If((kernel_row == stride - 1) & (below != 0)):
                m.d.sync += [
                    kernel_row.eq(0),
                    weight_offset.eq(0),
                    lowest.eq(lowest + 1),
                    below.eq(below - 1),
                    bank.eq(next_bank(bank, banks)),
                ]
            with m.Else():
                m.d.sync += [kernel_row.eq(kernel_row + 1), weight_offset.eq(weight_offset + row_step)]
        with m.If(close):
            m.d.sync += lowest.eq(lowest - 1)
        with m.If(frame_end):
            start_bank = following_bank
            for _ in range(first):
                start_bank = next_bank(start_bank, banks)
            m.d.sync += [
                lowest.eq(first),
                below.eq(height - 1 - first),
                kernel_row.eq(first_kernel_row),
                weight_offset.eq(first_kernel_row * row_step),
                bank.eq(start_bank),
            ]

        shift = stride.bit_length() - 1
        reached = ((kernel - 1) - kernel_row).as_unsigned() >> shift
        self.bank = bank
        self.rows_now: Value = Const(0, 1) if own.open_rows == 1 else Mux(lowest < reached, lowest, reached)
        self.rows: Value = delay(m, self.rows_now, 1, name=f"{prefix}rows", reset_less=False)
        self.kernel_row = kernel_row
        self.weight_offset = weight_offset
        self.fits = ~exceeds(lowest, banks - 2) if len(parameters.projections) > 1 else Const(1, 1)
        # Where kernels do not touch, the rows between them count as the upper one's.
        self.past = delay(
            m,
            (lowest << shift) + kernel_row >= max(kernel, stride),
            1,
            name=f"{prefix}past",
            reset_less=False,
        )
