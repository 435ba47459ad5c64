"""Names of ports and of the nets between instances in emitted Verilog."""

from __future__ import annotations

import re

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.skid import Skid
from lmht.rtl.verilog import emit_verilog
from lmht.rtl.verilog_links import name_links


class Chain(wiring.Component):
    """Two buffers behind each other: three streams whose members have the same names."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first = first = Skid(payload=8)
        m.submodules.second = second = Skid(payload=8)
        connect(m, flipped(self.i), first.i)
        connect(m, first.o, second.i)
        connect(m, second.o, flipped(self.o))
        return m


class Pair(wiring.Component):
    """Two chains, so that their ports cross a module's border."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.left = left = Chain()
        m.submodules.right = right = Chain()
        connect(m, flipped(self.i), left.i)
        connect(m, left.o, right.i)
        connect(m, right.o, flipped(self.o))
        return m


def test_ports_keep_their_declared_names() -> None:
    text = emit_verilog(Pair(), "pair")
    for port in ("i__valid", "i__ready", "i__payload", "o__valid", "o__ready", "o__payload"):
        assert f"    .{port}(" in text
    assert "$" not in text
    assert not re.search(r"__(valid|ready|payload)_\d", text)


def test_a_net_between_instances_is_named_after_the_one_that_drives_it() -> None:
    text = emit_verilog(Pair(), "pair")
    assert "    .o__valid(left_o__valid)" in text
    assert "    .i__valid(left_o__valid)" in text
    assert "    .i__ready(right_i__ready)" in text


def test_a_port_gives_way_to_a_signal_of_its_own_module() -> None:
    top = "module top(\n  a\n);\n  input a;\n  sub  s (\n    .\\x$1 (a)\n  );\nendmodule\n"
    sub = "module sub(\n  \\x$1 \n);\n  input \\x$1 ;\n  wire x;\n  assign x = \\x$1  & x;\nendmodule\n"
    assert name_links([top, sub]) == [top, sub]


def test_a_name_that_is_taken_is_left_alone() -> None:
    top = (
        "module top(\n  a\n);\n  input a;\n  wire s_x;\n  wire \\x$7 ;\n  assign s_x = a;\n"
        "  sub  s (\n    .x(\\x$7 )\n  );\nendmodule\n"
    )
    sub = "module sub(\n  x\n);\n  output x;\n  assign x = 1'h1;\nendmodule\n"
    assert name_links([top, sub]) == [top, sub]
