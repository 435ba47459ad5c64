"""Sticky errors of all stages, and what the first one was."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.ports import BUS_DATA_BITS
from lmht.rtl.select import first_of, lane_index, one_hot_mux

__all__ = ["ErrorLog"]


class ErrorLog(wiring.Component):
    """Keep every error bit that was seen, and stage, bits and time of the first.

    Parameters
    ----------
    errors : mapping of str to StructLayout
        Errors that each stage reports, by stage, in the order of the stages; each at most :attr:`MOST_BITS`.

    Members
    -------
    ``<stage>_errors`` : in, 1 in a cycle in which the error was seen
    ``<stage>_sticky`` : out, errors seen since the last clear
    ``clear`` : in
    ``cycles`` : in, a counter of cycles
    ``any`` : out, some stage has a sticky error
    ``reported`` : out, 1 in a cycle for errors seen 1 cycle before
    ``first`` : out, :attr:`FIRST`: stage number, its error bits, and ``cycles`` 2 cycles after it was seen

    Of several stages that report in the same cycle the first one is logged. An error seen in the cycle of a
    clear survives it.

    Raises
    ------
    ValueError
        If a stage declares more errors than :attr:`FIRST` holds.
    """

    MOST_BITS = 8

    def __init__(self, *, errors: Mapping[str, data.StructLayout]):
        for stage, layout in errors.items():
            if layout.size > self.MOST_BITS:
                raise ValueError(
                    f"errors of {stage} must be at most {self.MOST_BITS} bits, not {layout.size}"
                )
        self._layouts = dict(errors)
        self.FIRST = data.StructLayout(
            {"valid": 1, "stage": range(len(self._layouts)), "errors": self.MOST_BITS, "cycle": BUS_DATA_BITS}
        )
        super().__init__(
            {
                **{f"{stage}_errors": In(layout) for stage, layout in self._layouts.items()},
                **{f"{stage}_sticky": Out(layout.size) for stage, layout in self._layouts.items()},
                "clear": In(1),
                "cycles": In(BUS_DATA_BITS),
                "any": Out(1),
                "reported": Out(1),
                "first": Out(self.FIRST),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen_now = []
        reporting = Signal(len(self._layouts))
        bits = []
        for stage, layout in self._layouts.items():
            now = getattr(self, f"{stage}_errors").as_value()
            sticky = getattr(self, f"{stage}_sticky")
            self._stick(m, sticky, now)
            seen_now.append(now.any())
            # Its errors of this cycle, when `reporting` tells which stage is asked.
            last = Signal(layout.size, name=f"{stage}_last", reset_less=True)
            m.d.sync += last.eq(now)
            bits.append(Cat(last, Const(0, self.MOST_BITS - layout.size)))
        m.d.sync += [
            reporting.eq(Cat(seen_now)),
            self.any.eq(Cat(getattr(self, f"{stage}_sticky").any() for stage in self._layouts).any()),
        ]
        m.d.comb += self.reported.eq(reporting.any())
        first = self.first
        chosen = Signal(len(self._layouts))
        m.d.comb += chosen.eq(first_of(reporting))
        with m.If(self.clear):
            m.d.sync += first.valid.eq(0)
        with m.Elif(self.reported & ~first.valid):
            m.d.sync += [
                first.valid.eq(1),
                first.stage.eq(lane_index(chosen)),
                first.errors.eq(one_hot_mux(chosen, bits)),
                first.cycle.eq(self.cycles),
            ]
        return m

    def _stick(self, m: Module, sticky: Signal, now: Signal) -> None:
        with m.If(self.clear):
            m.d.sync += sticky.eq(now)
        with m.Else():
            m.d.sync += sticky.eq(sticky | now)
