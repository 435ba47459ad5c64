"""Pass 6: write everything a build holds, apart from its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmht.gen.core_file import core_file
from lmht.gen.driver_files import driver_sources
from lmht.gen.files import wrapper_name
from lmht.gen.header import HEADER_FILE, c_header
from lmht.gen.images import IMAGE_FILE, encode_image, format_hex
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_files import save_integer_network
from lmht.gen.manifest import MemoryRecord, RegisterRecord
from lmht.gen.memory_contents import pack_memories, tile_memories
from lmht.gen.top_ports import instance_template, template_name, top_ports
from lmht.rtl.accelerator import Accelerator
from lmht.rtl.bus_accelerator import BusAccelerator
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.registers import RegisterMap
from lmht.rtl.verilog import emit_verilog, primitive_sources

__all__ = ["PLAIN", "write_design"]

PLAIN = "plain"
"""No bus: the design's own ports."""


def write_design(
    folder: Path,
    design: DesignParameters,
    network: IntegerNetwork,
    *,
    bus: str = PLAIN,
    more: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Write all files but the manifest; returns what the manifest says about them.

    With a `bus` out of :data:`~lmht.rtl.bus_accelerator.BUSES` some of them are the design behind that bus,
    :func:`~lmht.gen.files.wrapper_name`, and the C driver. `more` are further files, by name.
    """
    registers = RegisterMap.for_design(design)
    contents = pack_memories(design, network)
    image = encode_image(design, contents)
    memory_files = {memory.name: f"images/{memory.name}.hex" for memory in tile_memories(design)}
    own, primitives = f"{design.name}.v", primitive_sources()
    wrappers: dict[str, bytes] = {}
    driver: dict[str, bytes] = {}
    if bus == PLAIN:
        top, ports = design.name, top_ports(Accelerator.ports(design))
    else:
        wrapper = BusAccelerator(parameters=design, bus=bus)
        top, ports = wrapper_name(design.name, bus), top_ports(wrapper.signature)
        wrappers[f"{top}.v"] = emit_verilog(wrapper, top).encode()
        driver = driver_sources()
    lmht_version = version("lmht")
    written: dict[str, bytes] = {
        **wrappers,
        **driver,
        **(more or {}),
        own: emit_verilog(Accelerator(parameters=design), design.name).encode(),
        **{path.name: path.read_bytes() for path in primitives},
        IMAGE_FILE: image,
        HEADER_FILE: c_header(registers, image_bytes=len(image), image_sections=len(memory_files)).encode(),
        template_name(top): instance_template(top, ports, lmht_version=lmht_version).encode(),
        f"{design.name}.core": core_file(
            name=design.name,
            architecture=network.architecture,
            lmht_version=lmht_version,
            verilog=[own, *(path.name for path in primitives), *wrappers],
            top=top,
            images=[IMAGE_FILE, *memory_files.values()],
            header=HEADER_FILE,
            driver=list(driver),
        ).encode(),
    }
    for memory in tile_memories(design):
        text = format_hex(contents[memory.name], memory.shape.width)
        written[memory_files[memory.name]] = text.encode()
    (folder / "images").mkdir()
    for name, content in written.items():
        (folder / name).write_bytes(content)
    save_integer_network(network, folder)
    return {
        "memories": tuple(
            MemoryRecord(
                index=memory.index,
                name=memory.name,
                width=memory.shape.width,
                depth=memory.shape.depth,
                file=memory_files.get(memory.name),
            )
            for memory in registers.memories
        ),
        "registers": tuple(
            RegisterRecord.model_validate(asdict(register)) for register in registers.registers
        ),
        "top": top,
        "ports": ports,
        "files": _hash_files(folder),
    }


def _hash_files(folder: Path) -> dict[str, str]:
    paths: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }
