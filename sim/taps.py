"""Streams inside a design that both engines can watch: where their nets are and how their words read.

The taps follow the data path: frame encoder, every tile's inputs and output, readout's input. Comparing neighbours
tells which component changed a stream: a router sits between an output and the inputs it feeds, a tile between its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.parameters import Consumer, DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.rtl.row_scheduler import INPUTS

__all__ = [
    "KIND_CODES",
    "FifoProbe",
    "Tap",
    "TapWords",
    "decode_words",
    "design_fifos",
    "design_taps",
    "locate_nets",
]

_kinds: Any = EventKind  # type checkers take the members of an Amaranth enumeration for integers
KIND_CODES: dict[str, int] = {kind.name: kind.value for kind in _kinds}
"""What ``kind`` is in the words, by the names of :class:`~lmht.rtl.events.EventKind`."""


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A stream between two components.

    Parameters
    ----------
    name : str
        Instance and port, such as ``layer0_tile0.o``.
    stage, port : str
        The two parts of the name.
    layout : EventLayout
    source : int
        Layer whose output travels here, :data:`~lmht.rtl.projection.IMAGE` for pixels.
    peer : tuple of str
        Stage and port at the stream's other end, in a router.
    nets : tuple of str
        Names of ``valid``, ``ready`` and ``payload`` in the top module.
    """

    name: str
    stage: str
    port: str
    layout: EventLayout
    source: int
    peer: tuple[str, str]
    nets: tuple[str, str, str] = ("", "", "")

    @property
    def sends(self) -> bool:
        """Whether the stage sends here what it made; otherwise it receives."""
        return self.port == "o"


@dataclass(frozen=True, eq=False)
class TapWords:
    """Words seen at one tap, in the order they moved; all arrays have shape (words,), ``levels`` (words, steps).

    ``image`` counts the ``FRAME_END`` words before; ``position`` is ``(y * width + x) * channels + channel``.
    """

    cycle: NDArray[np.int64]
    image: NDArray[np.int64]
    kind: NDArray[np.int64]
    error: NDArray[np.bool_]
    position: NDArray[np.int64]
    levels: NDArray[np.int64]

    def of_image(self, image: int) -> TapWords:
        """The words of one image."""
        # Frames follow each other at a tap, so an image's words lie together.
        chosen = slice(*np.searchsorted(self.image, [image, image + 1]))
        return TapWords(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def events(self) -> NDArray[np.bool_]:
        return self.kind == KIND_CODES["EVENT"]

    @property
    def row_ends(self) -> int:
        return int((self.kind == KIND_CODES["ROW_END"]).sum())

    @property
    def frame_ends(self) -> int:
        return int((self.kind == KIND_CODES["FRAME_END"]).sum())


@dataclass(frozen=True)
class FifoProbe:
    """A FIFO in front of a tile's input, whose fill the harness can watch.

    Parameters
    ----------
    name : str
        Instance and port of the tile, such as ``layer2_tile0.residual``.
    path : str
        Instances from the top module to the FIFO, joined by dots.
    depth : int
        Words that it holds.
    """

    name: str
    path: str
    depth: int

    NET = "held"
    """Net of the FIFO's module that says how many words are in it."""


def design_fifos(parameters: DesignParameters) -> tuple[FifoProbe, ...]:
    """The FIFOs of a design in the order of the data path."""
    return tuple(
        FifoProbe(
            name=f"{tile.name}.{INPUTS[number]}",
            path=f"{tile.name}.integrator.{'residual_' if number else ''}fifo",
            depth=projection.fifo,
        )
        for tile in parameters.tiles
        for number, projection in enumerate(tile.projections)
        if projection.fifo
    )


def design_taps(parameters: DesignParameters) -> tuple[Tap, ...]:
    """The taps of a design in the order of the data path, without their nets."""

    def make(stage: str, port: str, source: int, index: int) -> Tap:
        return Tap(
            name=f"{stage}.{port}",
            stage=stage,
            port=port,
            layout=parameters.link(source),
            source=source,
            peer=(f"router{source + 1}", f"{'i' if port == 'o' else 'o'}__{index}"),
        )

    taps = [make("frame_encoder", "o", IMAGE, 0)]
    for layer, tiles in enumerate(parameters.layers):
        for tile in tiles:
            for number, projection in enumerate(tile.projections):
                place = parameters.consumers(projection.source).index(Consumer(tile, number))
                taps.append(make(tile.name, INPUTS[number], projection.source, place))
        taps += [make(tile.name, "o", layer, index) for index, tile in enumerate(tiles)]
    return (*taps, make("readout", "i", len(parameters.layers) - 1, 0))


def locate_nets(taps: tuple[Tap, ...], top: str, verilog: str) -> tuple[Tap, ...]:
    """The taps with the nets that the top module connects to their ports.

    Where a port has lost its name to another signal of its component, the stream's other end tells the net.

    Raises
    ------
    ValueError
        If the Verilog has no such module, or both ends of a stream lack a port.
    """
    body = re.search(rf"^module {re.escape(top)}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"the Verilog holds no module {top}")
    instances = dict(_instances(body[0]))

    def net(tap: Tap, member: str) -> str:
        for stage, port in ((tap.stage, tap.port), tap.peer):
            # A port whose name is taken inside its component carries a number behind it.
            name = re.compile(rf"{port}__{member}(_\d+)?")
            found = [net for own, net in instances.get(stage, {}).items() if name.fullmatch(own)]
            if len(found) == 1:
                return found[0]
        raise ValueError(f"module {top} holds no net for {member} of {tap.name}")

    return tuple(
        replace(tap, nets=(net(tap, "valid"), net(tap, "ready"), net(tap, "payload"))) for tap in taps
    )


def _instances(module: str) -> Iterator[tuple[str, dict[str, str]]]:
    for match in re.finditer(r"^  \w+ (?:#\(.*?\) )?(\w+) \(\n(.*?)^  \);", module, re.MULTILINE | re.DOTALL):
        yield match[1], dict(re.findall(r"\.(\w+)\((\w+)\)", match[2]))


def decode_words(
    layout: EventLayout, payload: NDArray[np.uint64], cycle: NDArray[np.uint64], image: NDArray[np.uint32]
) -> TapWords:
    """Flat payloads, shape (words, parts) with the low 64 bits first, as fields."""
    fields = layout.fields()

    def field(name: str) -> NDArray[np.int64]:
        return _bits(payload, *fields[name])

    levels = np.stack([field(f"level{step}") for step in range(layout.steps)], axis=1)
    if layout.signed and layout.level_bits < 64:
        levels = levels - ((levels >> (layout.level_bits - 1)) << layout.level_bits)
    return TapWords(
        cycle=cycle.astype(np.int64),
        image=image.astype(np.int64),
        kind=field("kind"),
        error=field("error").astype(bool),
        position=(field("y") * layout.width + field("x")) * layout.channels + field("channel"),
        levels=levels,
    )


def _bits(payload: NDArray[np.uint64], offset: int, width: int) -> NDArray[np.int64]:
    if width == 0:
        return np.zeros(len(payload), np.int64)
    part, start = divmod(offset, 64)
    value = payload[:, part] >> np.uint64(start)
    if start + width > 64:
        value = value | (payload[:, part + 1] << np.uint64(64 - start))
    if width < 64:
        value = value & np.uint64(2**width - 1)
    return value.astype(np.int64)
