"""Emitted Verilog: deterministic, readable, free of warnings."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventLayout
from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.readout import Readout
from lmht.rtl.router import EventRouter
from lmht.rtl.spike_encoder import SpikeEncoder
from lmht.rtl.verilog import emit_verilog
from lmht.sim.benches.spike_encoder import encoder_parameters
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.toolchain import toolchain_environment, verilator_command

LAYOUT = EventLayout(height=3, width=1, channels=4, steps=2, level_bits=3)

COMPONENTS = {
    "frame_encoder": lambda: FrameEncoder(frame=FrameParameters(height=4, width=3, channels=3)),
    "flat_frame_encoder": lambda: FrameEncoder(frame=FrameParameters(height=1, width=1, channels=1)),
    "router": lambda: EventRouter(layout=LAYOUT, sources=3, destinations=2),
    "plain_router": lambda: EventRouter(layout=LAYOUT, sources=1, destinations=1),
    "spike_encoder": lambda: SpikeEncoder(
        parameters=encoder_parameters(channels=10, update_lanes=3, levels=2, steps=2)
    ),
    "readout": lambda: Readout(layout=EventLayout(channels=10, level_bits=20, signed=True)),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_lint_knows_the_named_warnings_only(name: str, tmp_path: Path) -> None:
    source = tmp_path / f"{name}.v"
    source.write_text(emit_verilog(COMPONENTS[name](), name))
    waivers = [f"-Wno-{waiver}" for waiver in LINT_WAIVERS]
    command = verilator_command("--lint-only", "-Wall", *waivers, "--top-module", name, str(source))
    result = subprocess.run(command, env=toolchain_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_text_has_plain_names_and_no_paths() -> None:
    text = emit_verilog(COMPONENTS["router"](), "router")
    assert "\\" not in text
    assert "$" not in text
    assert not re.search(r"\.py|/home|\d{4}-\d\d-\d\d", text)
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == [
        "router",
        "router__head_0",
        "router__head_1",
        "router__head_2",
    ]


def test_clock_and_reset_come_first_and_arrays_in_numeric_order() -> None:
    component = EventRouter(layout=LAYOUT, sources=11, destinations=1)
    ports = emit_verilog(component, "router").split("(", 1)[1].split(");", 1)[0].split()
    assert ports[:2] == ["clk,", "rst,"]
    payloads = [port for port in ports if port.startswith("i__") and "payload" in port]
    assert payloads == [f"i__{index}__payload," for index in range(11)]


def test_same_bytes_with_another_hash_seed() -> None:
    program = (
        "from lmht.rtl.events import EventLayout\n"
        "from lmht.rtl.router import EventRouter\n"
        "from lmht.rtl.verilog import emit_verilog\n"
        "layout = EventLayout(height=3, width=1, channels=4, steps=2, level_bits=3)\n"
        "print(emit_verilog(EventRouter(layout=layout, sources=3, destinations=2), 'router'), end='')\n"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        output = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        ).stdout
        digests.add(hashlib.sha256(output).hexdigest())
    digests.add(hashlib.sha256(emit_verilog(COMPONENTS["router"](), "router").encode()).hexdigest())
    assert len(digests) == 1


class TwoNames(wiring.Component):
    """Signals whose plain names would be the same."""

    def __init__(self) -> None:
        super().__init__({"a": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first, second = Signal(4, name="s.x"), Signal(4, name="s__x")
        m.d.sync += [first.eq(self.a), second.eq(first + 1), self.o.eq(second)]
        return m


def test_names_that_would_be_equal_stay_apart() -> None:
    text = emit_verilog(TwoNames(), "names")
    assert {"s__x", "s__x_1"} <= set(re.findall(r"reg \[3:0\] (\w+)", text))


@pytest.mark.parametrize("name", ["1top", "a.b", "module", ""])
def test_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^name must be a Verilog identifier, not '{re.escape(name)}'$"):
        emit_verilog(None, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("ports", range(17, 23))
def test_port_lists_of_any_length(ports: int) -> None:
    """Yosys breaks long ones, and one that ends on a full line before its parenthesis."""

    class Wide(wiring.Component):
        def __init__(self) -> None:
            super().__init__({f"i{index}": In(1) for index in range(ports)} | {"o": Out(1)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.d.comb += self.o.eq(Cat(getattr(self, f"i{index}") for index in range(ports)).all())
            return m

    header = emit_verilog(Wide(), "wide").split(");", 1)[0]
    assert re.findall(r"^  (\w+),?$", header, re.MULTILINE) == [*(f"i{index}" for index in range(ports)), "o"]
