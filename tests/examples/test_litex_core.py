"""The LiteX example: every port of the emitted design is connected, and a frame goes through the SoC's bus and DMA.

LiteX is not needed for lmht; where it is not installed, a stand-in records what the example connects, and the test in
the SoC is skipped.
"""

import importlib.util
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.golden import GoldenModel
from lmht.sim.program import build_program
from lmht.sim.random_networks import random_images, random_network

EXAMPLE = Path(__file__).parents[2] / "examples" / "litex_core.py"
PLAYER = Path(__file__).parent / "wishbone_player.cpp"
ORIGIN = 0x30000000
# LiteX's Verilog, the first of the sources, is not ours to mend.
LINT_OFF = b"`verilator_config\n" + b"".join(
    b'lint_off %s -file "source0.v"\n' % rule for rule in (b"", b"-rule COMBDLY", b"-rule UNOPTFLAT")
)
_PORT = re.compile(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", re.MULTILINE)


@pytest.fixture(scope="module")
def network():
    return random_network(np.random.default_rng(8), input_shape=(1, 5, 5), widths=(12, 5))


@pytest.fixture(scope="module")
def build(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litex") / "build"
    compile_network(network, folder, CompileOptions(name="core", lanes=4, bus="axi"))
    return Build.open(folder)


def load_example():
    spec = importlib.util.spec_from_file_location("litex_core", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wire:
    """A signal of the stand-in, by its name and bits."""

    def __init__(self, name, bits=None):
        self.name, self.bits = name, bits

    def __getitem__(self, bits):
        return Wire(self.name, bits.stop)

    def eq(self, other):
        return (self, other)


def group(name, *members):
    """Signals of a channel or stream, and no others."""
    return SimpleNamespace(**{member: Wire(f"{name}.{member}") for member in members})


def axi_lite(**_):
    address, handshake = ("addr", "prot"), ("valid", "ready")
    return SimpleNamespace(
        aw=group("bus.aw", *handshake, *address),
        w=group("bus.w", *handshake, "data", "strb"),
        b=group("bus.b", *handshake, "resp"),
        ar=group("bus.ar", *handshake, *address),
        r=group("bus.r", *handshake, "data", "resp"),
    )


@pytest.fixture
def stand_in(monkeypatch):
    """The example, over modules with the names of LiteX and migen; its instances are kept in `made`."""
    made = []

    class Specials(list):
        def __iadd__(self, instance):
            made.append(instance)
            return self

    class LiteXModule:
        comb = []
        specials = Specials()

    names = iter(("frames", "results"))

    def stream(**_):
        return group(next(names), "valid", "ready", "data", "keep", "last")

    class EventManager(SimpleNamespace):
        def finalize(self):
            pass

    fakes = {
        "litex": {},
        "litex.gen": {"LiteXModule": LiteXModule},
        "litex.soc": {},
        "litex.soc.cores": {},
        "litex.soc.cores.dma": {"WishboneDMAReader": None, "WishboneDMAWriter": None},
        "litex.soc.integration": {},
        "litex.soc.integration.soc": {"SoCRegion": None},
        "litex.soc.interconnect": {
            "axi": SimpleNamespace(AXILiteInterface=axi_lite, AXIStreamInterface=stream),
            "wishbone": None,
        },
        "litex.soc.interconnect.csr_eventmanager": {
            "EventManager": EventManager,
            "EventSourceLevel": lambda **_: SimpleNamespace(trigger=Wire("trigger")),
        },
        "migen": {
            "ClockSignal": lambda domain: Wire(f"clock {domain}"),
            "ResetSignal": lambda domain: Wire(f"reset {domain}"),
            "Signal": lambda: Wire("interrupt"),
            "Instance": lambda module, **ports: (module, ports),
        },
    }
    for name, members in fakes.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    example = load_example()
    example.made = made
    return example


def test_every_port_of_the_emitted_verilog_is_connected(stand_in, build):
    sources = []
    stand_in.LmhtCore(SimpleNamespace(add_source=sources.append), build.folder)
    ((module, connections),) = stand_in.made
    assert module == "core_axi"
    assert {path.name for path in sources} == {
        "core.v",
        "core_axi.v",
        "lmht_multiplier.v",
        "lmht_ram.v",
        "lmht_rows.v",
    }
    verilog = (build.folder / "core_axi.v").read_text()
    body = verilog[verilog.index("module core_axi(") :].partition("endmodule")[0]
    ports = {f"{direction[0]}_{name}": high for direction, high, name in _PORT.findall(body)}
    assert set(connections) == set(ports)
    # No two ports share a signal, and the addresses are cut to their width.
    signals = [wire.name for wire in connections.values()]
    assert len(set(signals)) == len(signals)
    assert connections["i_s_axi_awvalid"].name == "bus.aw.valid"
    assert connections["i_s_axi_wdata"].name == "bus.w.data"
    assert connections["o_m_axis_tlast"].name == "results.last"
    assert connections["i_s_axi_araddr"].bits == int(ports["i_s_axi_araddr"]) + 1


def test_port_that_the_example_does_not_know_is_refused(stand_in, build, tmp_path):
    """What a later version might add is not left open."""
    manifest = json.loads((build.folder / "manifest.json").read_text())
    manifest["ports"].append({"name": "s_axi_awuser", "direction": "input", "width": 1})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AttributeError, match="user"):
        stand_in.LmhtCore(SimpleNamespace(add_source=print), tmp_path)


def test_build_without_axi_ports_is_refused(stand_in, network, tmp_path):
    compile_network(network, tmp_path / "plain", CompileOptions(name="core", lanes=4))
    with pytest.raises(ValueError, match=r"plain has no AXI ports: compile it with --bus axi$"):
        stand_in.LmhtCore(SimpleNamespace(add_source=print), tmp_path / "plain")


def make_soc(build, folder):
    """Verilog of a SoC without a processor, whose bus has a master outside; its CSRs and memory."""
    from litex.build.generic_platform import GenericPlatform, Pins
    from litex.soc.integration.export import get_csr_json
    from litex.soc.integration.soc_core import SoCMini
    from litex.soc.interconnect import wishbone
    from migen import ClockDomain, Module

    platform = GenericPlatform("none", [("clk", 0, Pins(1)), ("rst", 0, Pins(1))], name="soc")
    soc = SoCMini(platform, clk_freq=int(1e6), integrated_sram_size=0x1000)
    soc.submodules.crg = crg = Module()
    crg.clock_domains.cd_sys = ClockDomain("sys")
    crg.comb += [crg.cd_sys.clk.eq(platform.request("clk")), crg.cd_sys.rst.eq(platform.request("rst"))]
    load_example().add_lmht(soc, build.folder, ORIGIN)
    host = wishbone.Interface(data_width=32, address_width=32)
    platform.add_extension(host.get_ios("host"))
    soc.comb += host.connect_to_pads(platform.request("host"), mode="slave")
    soc.bus.add_master("host", host)
    soc.finalize()
    platform.get_verilog(soc, name="soc").write(str(folder / "soc.v"))
    csrs = json.loads(get_csr_json(soc.csr_regions, soc.constants, soc.mem_regions))
    return {name: entry["addr"] for name, entry in csrs["csr_registers"].items()}, csrs["memories"]["sram"][
        "base"
    ]


def load_operations(build):
    """Register writes that load the memory image and let frames in."""
    address = {entry.name: ORIGIN + 4 * entry.address for entry in build.manifest.registers}
    words = struct.unpack(f"<{build.image_file.stat().st_size // 4}I", build.image_file.read_bytes())
    at = 6
    while at < len(words) - 1:
        index, width, rows = words[at : at + 3]
        at += 3
        yield f"w {address['LOAD_SELECT']} {index}"
        yield f"w {address['LOAD_ROW']} 0"
        yield from (f"w {address['LOAD_DATA']} {word}" for word in words[at : at + width * rows])
        at += width * rows
    yield f"w {address['CONTROL']} 1"


def test_frame_through_a_litex_soc(build, network, tmp_path, monkeypatch):
    """Registers over the SoC's bus, a frame and its result by DMA: every logit and the class are the golden model's."""
    pytest.importorskip("litex", reason="LiteX is not installed (pip install litex)")
    monkeypatch.chdir(tmp_path)  # LiteX leaves the contents of memories there
    csr, memory = make_soc(build, tmp_path)
    images = random_images(np.random.default_rng(9), 2, network.input_shape, density=0.5)
    golden = GoldenModel(network).run(images).logits.numpy()
    classes, beats = golden.shape[1], build.parameters.frame.beats
    target = memory + 0x800
    operations = [f"r {ORIGIN}", *load_operations(build)]
    for image in images:
        frame = image.transpose(1, 2, 0).tobytes().ljust(8 * beats, b"\xff")
        words = struct.unpack(f"<{2 * beats}I", frame)
        operations += [f"w {memory + 4 * place} {word}" for place, word in enumerate(words)]
        for channel, base, length in (
            ("writer", target, 4 * (classes + 2) // 8 * 8),
            ("reader", memory, 8 * beats),
        ):
            csrs = f"lmht_{channel}"
            operations += [f"w {csr[f'{csrs}_base']} 0", f"w {csr[f'{csrs}_base'] + 4} {base}"]
            operations += [f"w {csr[f'{csrs}_length']} {length}"]
            operations += [f"w {csr[f'{csrs}_enable']} 0", f"w {csr[f'{csrs}_enable']} 1"]
        operations.append(f"p {csr['lmht_writer_done']} 1")
        operations += [f"r {target + 4 * place}" for place in range(classes + 1)]
    (tmp_path / "operations.txt").write_text("\n".join(operations) + "\n")
    program = build_program(
        "litex",
        "soc",
        {"wishbone_player.cpp": PLAYER.read_bytes()},
        [tmp_path / "soc.v", build.folder / "core_axi.v", *build.verilog_files],
        LINT_OFF,
        main="wishbone_player.cpp",
        optimize=False,
    )
    done = subprocess.run([program, "operations.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [int(line) for line in done.stdout.split()]
    assert struct.pack(">I", found[0]) == b"LMHT"
    results = np.array(found[1:], np.uint32).reshape(len(images), classes + 1)
    np.testing.assert_array_equal(results[:, :-1].view(np.int32), golden)
    np.testing.assert_array_equal(results[:, -1], golden.argmax(1))
