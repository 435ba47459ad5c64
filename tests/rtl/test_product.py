"""Products: exact for every width, split operands included, and as late as they promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl import product
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import BenchFailure, run_cocotb


class Product(wiring.Component):
    """One product with ports of its own."""

    def __init__(self, a_bits: int, b_bits: int):
        super().__init__({"a": In(signed(a_bits)), "b": In(b_bits), "product": Out(signed(a_bits + b_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.product.eq(product.wide_product(m, self.a, self.b, name="product_of_both"))
        return m


def run(
    folder: Path,
    a_bits: int,
    b_bits: int,
    *,
    primitives: Sequence[Path | str] | None = None,
    build_args: Sequence[str] = (),
) -> None:
    run_cocotb(
        [emit_verilog(Product(a_bits, b_bits), "dut"), *(primitives or primitive_sources())],
        "dut",
        "lmht.sim.benches.product",
        parameters={"a_bits": a_bits, "b_bits": b_bits},
        build_args=("-O3", *build_args),
        folder=folder,
    )


@pytest.mark.parametrize(("a_bits", "b_bits"), [(2, 1), (4, 2), (18, 18), (19, 9), (35, 24), (48, 17)])
def test_exact(a_bits: int, b_bits: int, tmp_path: Path) -> None:
    run(tmp_path, a_bits, b_bits)


def test_a_part_with_a_sign_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The low part takes a bit more than fits beside its sign."""
    monkeypatch.setattr(product, "Const", lambda *_: product.Cat())
    with pytest.raises(BenchFailure, match="times"):
        run(tmp_path, 24, 9)


def test_a_late_product_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PART_BITS", 10)  # split, while the bench awaits it one cycle earlier
    with pytest.raises(BenchFailure, match="times"):
        run(tmp_path, 16, 9)


def ecp5_block() -> str:
    """What an ECP5's MULT18X18D does with the ports and registers that ``lmht_multiplier`` uses."""

    def pins(letter: str, bits: int) -> str:
        return ", ".join(f"{letter}{bit}" for bit in reversed(range(bits)))

    return f"""
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTB_CLK = "NONE", parameter REG_OUTPUT_CLK = "NONE"
) (
    input CLK0, CE0, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input {pins("A", 18)}, {pins("B", 18)}, {pins("C", 18)},
    output {pins("P", 36)}
);
    reg signed [18:0] a_register, b_register;
    reg signed [37:0] p_register;
    wire signed [18:0] a_pins = {{SIGNEDA & A17, {pins("A", 18)}}};
    wire signed [18:0] b_pins = {{SIGNEDB & B17, {pins("B", 18)}}};
    wire signed [18:0] a = REG_INPUTA_CLK == "CLK0" ? a_register : a_pins;
    wire signed [18:0] b = REG_INPUTB_CLK == "CLK0" ? b_register : b_pins;
    wire signed [37:0] p = a * b;
    wire unused = |{{RST0, SOURCEA, SOURCEB, {pins("C", 18)}}};
    assign {{{pins("P", 36)}}} = REG_OUTPUT_CLK == "CLK0" ? p_register[35:0] : p[35:0];
    always @(posedge CLK0) begin
        if (CE0) begin
            a_register <= a_pins;
            b_register <= b_pins;
            p_register <= p;
        end
    end
endmodule
"""


@pytest.mark.daily
@pytest.mark.parametrize(("a_bits", "b_bits"), [(5, 3), (18, 18), (30, 17)])
def test_the_block_of_an_ecp5(a_bits: int, b_bits: int, tmp_path: Path) -> None:
    sources = [*primitive_sources(), ecp5_block()]
    run(tmp_path, a_bits, b_bits, primitives=sources, build_args=["-DLMHT_ECP5"])


@pytest.mark.parametrize("register", ["REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_OUTPUT_CLK"])
def test_a_missing_register_is_found(register: str, tmp_path: Path) -> None:
    right, wrong = f'{register}("CLK0")', f'{register}("NONE")'
    sources = [path.read_text().replace(right, wrong) for path in primitive_sources()]
    with pytest.raises(BenchFailure, match="times"):
        run(tmp_path, 18, 17, primitives=[*sources, ecp5_block()], build_args=["-DLMHT_ECP5"])
