"""Ports of the module that a system instantiates: the manifest lists them, and an instantiation template shows them."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lmht.gen.manifest import PortRecord
from lmht.gen.templating import render

__all__ = ["instance_template", "template_name", "top_ports"]

_CLOCK = (
    PortRecord(name="clk", direction="input", width=1),
    PortRecord(name="rst", direction="input", width=1),
)


def top_ports(signature: wiring.Signature) -> tuple[PortRecord, ...]:
    """Clock, reset, and the ports of a component with this signature as :func:`~lmht.rtl.verilog.emit_verilog` names
    them."""
    return (
        *_CLOCK,
        *(
            PortRecord(
                name="__".join(map(str, path)),
                direction="input" if member.flow is In else "output",
                width=Shape.cast(member.shape).width,
            )
            for path, member, _ in signature.flatten(signature.create())
        ),
    )


def template_name(top: str) -> str:
    """File of the instantiation template, with the ending that synthesis tools give theirs."""
    return f"{top}.veo"


def instance_template(top: str, ports: Sequence[PortRecord], *, lmht_version: str) -> str:
    """Verilog that instantiates the module `top`, every port connected to a net of its own name."""
    return render(
        "instance.veo.jinja",
        top=top,
        ports=ports,
        lmht_version=lmht_version,
        name_width=max(len(port.name) for port in ports),
    )
