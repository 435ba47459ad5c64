"""Memories: rows, columns and latency, in their plain form and in an ECP5's block RAM; planted faults are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import BenchFailure, run_cocotb

SHAPES = [(7, 3), (23, 600), (20, 1030), (11, 4000), (3, 8192), (2, 9000)]


class Memory(wiring.Component):
    """One memory with ports of its own."""

    def __init__(self, width: int, depth: int):
        self._shape = MemoryShape(width=width, depth=depth)
        row = self._shape.row_bits
        super().__init__(
            {
                "write_enable": In(1),
                "write_row": In(row),
                "write_data": In(width),
                "read_enable": In(1),
                "read_row": In(row),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram = Ram(m, "ram", shape=self._shape)
        m.d.comb += [
            ram.write_enable.eq(self.write_enable),
            ram.write_row.eq(self.write_row),
            ram.write_data.eq(self.write_data),
            ram.read_enable.eq(self.read_enable),
            ram.read_row.eq(self.read_row),
            self.read_data.eq(ram.read_data),
        ]
        return m


def run(
    folder: Path,
    shape: tuple[int, int],
    *,
    primitives: Sequence[Path | str] | None = None,
    build_args: Sequence[str] = (),
) -> None:
    run_cocotb(
        [emit_verilog(Memory(*shape), "memory"), *(primitives or primitive_sources())],
        "memory",
        "lmht.sim.benches.memory",
        parameters={"width": shape[0], "depth": shape[1]},
        build_args=build_args,
        folder=folder,
    )


def ecp5_block() -> str:
    """What an ECP5's DP16KD does with the ports and registers that ``lmht_ram_block`` uses."""

    def pins(letters: str, bits: int) -> str:
        return ", ".join(f"{letters}{bit}" for bit in reversed(range(bits)))

    ones = "CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2, CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2"
    return f"""
module DP16KD #(
    parameter DATA_WIDTH_A = 18, parameter DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", parameter REGMODE_B = "NOREG",
    parameter GSR = "ENABLED", parameter CLKAMUX = "", parameter CLKBMUX = "", parameter WRITEMODE_A = "",
    parameter WRITEMODE_B = ""
) (
    input {ones},
    input {pins("ADA", 14)}, {pins("ADB", 14)}, {pins("DIA", 18)},
    output {pins("DOB", 18)}
);
    // 9 bits for every 8 addresses: rows of 9 and 18 bits use them all.
    reg [8:0] bytes [0:2047];
    reg [17:0] array, register;
    wire [13:0] a = {{{pins("ADA", 14)}}};
    wire [13:0] b = {{{pins("ADB", 14)}}};
    wire [17:0] d = {{{pins("DIA", 18)}}};
    wire unused = |{{OCEA, WEB, RSTA, RSTB, CSA0, CSA1, CSA2, CSB0, CSB1, CSB2}};
    integer bit_place;
    assign {{{pins("DOB", 18)}}} = REGMODE_B == "OUTREG" ? register : array;
    always @(posedge CLKA) if (CEA & WEA) begin
        if (DATA_WIDTH_A == 18) begin
            if (a[0]) bytes[{{a[13:4], 1'b0}}] <= d[8:0];
            if (a[1]) bytes[{{a[13:4], 1'b1}}] <= d[17:9];
        end else if (DATA_WIDTH_A == 9) bytes[a[13:3]] <= d[8:0];
        else for (bit_place = 0; bit_place < DATA_WIDTH_A; bit_place = bit_place + 1)
            bytes[a[13:3]][a[2:0] + bit_place[2:0]] <= d[bit_place];
    end
    always @(posedge CLKB) begin
        if (CEB) array <= DATA_WIDTH_B == 18 ? {{bytes[{{b[13:4], 1'b1}}], bytes[{{b[13:4], 1'b0}}]}}
            : {{9'b0, bytes[b[13:3]] >> (DATA_WIDTH_B == 9 ? 3'd0 : b[2:0])}};
        if (OCEB) register <= array;
    end
endmodule
"""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows(shape: tuple[int, int], tmp_path: Path) -> None:
    run(tmp_path, shape)


@pytest.mark.daily
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_the_block_of_an_ecp5(shape: tuple[int, int], tmp_path: Path) -> None:
    run(tmp_path, shape, primitives=[*primitive_sources(), ecp5_block()], build_args=["-DLMHT_ECP5"])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('REGMODE_B("OUTREG")', 'REGMODE_B("NOREG")'),
        (".OCEB(read_enable)", ".OCEB(1'b1)"),
        ("14'd3", "14'd1"),
        ("WIDTH == 4 ? 2", "WIDTH == 4 ? 1"),
    ],
    ids=["no output register", "register that runs on", "a byte not written", "addresses of other rows"],
)
def test_a_wrong_block_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    sources = [path.read_text() for path in primitive_sources()]
    assert any(right in text for text in sources)
    changed = [text.replace(right, wrong) for text in sources]
    shape = (11, 4000) if "4 ?" in right else (23, 600)
    with pytest.raises(BenchFailure, match="row"):
        run(tmp_path, shape, primitives=[*changed, ecp5_block()], build_args=["-DLMHT_ECP5"])
