"""C++ sources of the harness: a header written for one design beside the fixed files that use it.

Ports, payload positions and register addresses come from the objects that made the Verilog, record layouts from the
numpy types that read them back, so that the C++ restates none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from amaranth.lib import data
from jinja2 import Environment, StrictUndefined

from lmht.gen.images import IMAGE_FORMAT, IMAGE_MAGIC
from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.readout import result_layout
from lmht.rtl.registers import FIRST_STAGE_ADDRESS, Register, RegisterMap
from lmht.sim.simulation import event_dtype, image_dtype
from lmht.sim.taps import KIND_CODES, FifoProbe, Tap, design_fifos

__all__ = ["design_sources", "fixed_sources", "harness_sources", "readable_nets", "result_fields"]

_C_TYPES = {"u1": "uint8_t", "u4": "uint32_t", "u8": "uint64_t", "i8": "int64_t"}


def result_fields(parameters: DesignParameters) -> dict[str, tuple[int, int]]:
    """Bit positions ``{name: (offset, width)}`` of a result word: ``last``, ``error``, ``channel``, ``value``."""
    return _positions(result_layout(parameters.logit_layout))


def _positions(layout: data.StructLayout) -> dict[str, tuple[int, int]]:
    return {name: (field.offset, field.width) for name, field in layout}


@dataclass(frozen=True)
class _Record:
    """A numpy type as the fields of a C struct."""

    name: str
    dtype: np.dtype

    @property
    def size(self) -> int:
        return self.dtype.itemsize

    @property
    def fields(self) -> list[tuple[str, str, int]]:
        assert self.dtype.names is not None
        rows = []
        for name in self.dtype.names:
            field = self.dtype[name]
            rows.append(
                (
                    _C_TYPES[field.base.str[1:]],
                    name,
                    int(np.prod(field.shape, dtype=int)) if field.shape else 0,
                )
            )
        return rows


def harness_sources(
    parameters: DesignParameters, taps: Sequence[Tap], *, trace: str | None = None
) -> dict[str, bytes]:
    """The harness's files by name, the same bytes for the same design.

    Parameters
    ----------
    parameters : DesignParameters
    taps : sequence of Tap
        Streams whose words can be recorded, at least one.
    trace : {"vcd", "fst"}, optional
        Waveform format the model is built for.
    """
    return {
        **fixed_sources("harness.cpp", "harness_model.h"),
        **design_sources(parameters, taps, trace=trace),
    }


def design_sources(
    parameters: DesignParameters,
    taps: Sequence[Tap],
    *,
    trace: str | None = None,
    top: str | None = None,
    instances: Sequence[str] = (),
) -> dict[str, bytes]:
    """What any program around a model of the design needs: ``harness_design.h``, written for it, and the fixed headers
    that use nothing but that.

    Parameters
    ----------
    parameters, taps, trace
        As in :func:`harness_sources`.
    top : str, optional
        Top module of the model, where that is another one than the design's.
    instances : sequence of str
        Instances from there down to the design.
    """
    top = top or parameters.name
    header = _design_header(parameters, taps, trace, top, ".".join(["TOP", top, *instances]))
    return {**fixed_sources("harness_taps.h", "host.h"), "harness_design.h": header.encode()}


def fixed_sources(*names: str) -> dict[str, bytes]:
    """Files of ``sim/templates`` that are the same for all designs."""
    return {name: _template(name).encode() for name in names}


def _design_header(
    parameters: DesignParameters, taps: Sequence[Tap], trace: str | None, top: str, scope: str
) -> str:
    registers = RegisterMap.for_design(parameters)
    value = int(parameters.design_hash, 16)
    template = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    ).from_string(_template("harness_design.h.jinja"))
    return template.render(
        top=top,
        scope=scope,
        trace=trace,
        result=result_fields(parameters),
        beat=_positions(frame_beat_layout(parameters.frame)),
        hash_low=value & 0xFFFFFFFF,
        hash_high=value >> 32,
        image_magic=IMAGE_MAGIC,
        image_format=IMAGE_FORMAT,
        frame_bytes=parameters.frame.frame_bytes,
        bytes_per_beat=parameters.frame.bytes_per_beat,
        beats=parameters.frame.beats,
        classes=parameters.classes,
        frame_end=KIND_CODES["FRAME_END"],
        addresses={
            name: registers.address(register)
            for name, register in (
                ("control", "CONTROL"),
                ("command", "COMMAND"),
                ("load_select", "LOAD_SELECT"),
                ("load_row", "LOAD_ROW"),
                ("load_data", "LOAD_DATA"),
                ("hash_low", "DESIGN_HASH_LOW"),
                ("hash_high", "DESIGN_HASH_HIGH"),
            )
        },
        controls={
            "control_enable": registers["CONTROL"].pack(enable=1),
            "command_clear": registers["COMMAND"].pack(clear=1),
            "command_snapshot": registers["COMMAND"].pack(snapshot=1),
        },
        registers=[
            (entry.name, entry.address, _join(entry)) for entry in registers.registers if entry.readable
        ],
        taps=[{"name": tap.name, "nets": tap.nets, "kind": tap.layout.fields()["kind"]} for tap in taps],
        fifos=design_fifos(parameters),
        fifo_net=FifoProbe.NET,
        records=[
            _Record("ImageRecord", image_dtype(parameters.classes)),
            _Record("EventRecord", event_dtype(parameters)),
        ],
    )


def _join(register: Register) -> str:
    """``sum`` for a counter, ``any`` for sticky errors, ``latest`` for what is no stage's."""
    if register.address < FIRST_STAGE_ADDRESS:
        return "latest"
    return "any" if register.fields else "sum"


def readable_nets(parameters: DesignParameters, taps: Sequence[Tap]) -> bytes:
    """Verilator configuration that makes the nets of `taps` and the fill of every FIFO, and nothing else, readable from
    C++."""
    top = parameters.name
    nets = [(top, net) for tap in taps for net in tap.nets]
    nets += [(f"{top}.{fifo.path}".replace(".", "__"), FifoProbe.NET) for fifo in design_fifos(parameters)]
    lines = [f'public_flat_rd -module "{module}" -var "{net}"' for module, net in dict.fromkeys(nets)]
    return "\n".join(["`verilator_config", *lines, ""]).encode()


def _template(name: str) -> str:
    return (files("lmht.sim.templates") / name).read_text(encoding="utf-8")
