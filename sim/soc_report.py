"""What the firmware of the RISC-V system says over the UART, line by line, as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["SocError", "SocImage", "SocReport"]

_IMAGE = re.compile(
    r"image (?P<number>\d+): class (?P<winner>\d+)(?P<flagged> flagged)?, logits(?P<logits>(?: -?\d+)+), "
    r"cycles: send (?P<send>\d+) wait (?P<wait>\d+) fetch (?P<fetch>\d+) core (?P<core>\d+), "
    r"by (?P<way>polling|interrupt)"
)
_LOADED = re.compile(r"loaded (?P<bytes>\d+) bytes in (?P<cycles>\d+) cycles")
_REGISTER = re.compile(r"register (?P<address>\d+): (?P<value>\d+)")
_ERROR = "error: "


class SocError(RuntimeError):
    """The firmware gave up, or its report is damaged; one line."""


@dataclass(frozen=True)
class SocImage:
    """One image on the system.

    Parameters
    ----------
    winner : int
        Class.
    flagged : bool
    logits : tuple of int
    send, wait, fetch : int
        The processor's clock cycles: until the frame was sent, until words of its result were there, and until all
        logits were at hand.
    core : int
        Clock cycles from the frame's first beat to its result's last word.
    way : {"polling", "interrupt"}
        How the result was awaited.
    """

    winner: int
    flagged: bool
    logits: tuple[int, ...]
    send: int
    wait: int
    fetch: int
    core: int
    way: str

    @property
    def total(self) -> int:
        """The processor's clock cycles for this image."""
        return self.send + self.wait + self.fetch


@dataclass
class SocReport:
    """All that came over the UART so far.

    Attributes
    ----------
    images : list of SocImage
    loaded_bytes, load_cycles : int
        Memory image, and the processor's clock cycles to check and load it.
    registers : dict
        Value by address, for every register that can be read.
    lines : list of str
    """

    images: list[SocImage] = field(default_factory=list)
    loaded_bytes: int = 0
    load_cycles: int = 0
    registers: dict[int, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, lines: Iterable[str]) -> SocReport:
        """The report in these lines; errors as :meth:`add`."""
        report = cls()
        for line in lines:
            report.add(line)
        return report

    def add(self, line: str) -> None:
        """Take one more line; of the first one, a title, only the text is kept.

        Raises
        ------
        SocError
            If it tells of an error, is none of the firmware's, or an image is missing before it.
        """
        line = line.rstrip("\r\n")
        self.lines.append(line)
        if line.startswith(_ERROR):
            raise SocError(f"the firmware says: {line.removeprefix(_ERROR)}")
        if match := _IMAGE.fullmatch(line):
            if int(match["number"]) != len(self.images):
                raise SocError(f"image {len(self.images)} is missing: {line!r} came instead")
            self.images.append(
                SocImage(
                    winner=int(match["winner"]),
                    flagged=match["flagged"] is not None,
                    logits=tuple(map(int, match["logits"].split())),
                    send=int(match["send"]),
                    wait=int(match["wait"]),
                    fetch=int(match["fetch"]),
                    core=int(match["core"]),
                    way=match["way"],
                )
            )
        elif match := _LOADED.fullmatch(line):
            self.loaded_bytes, self.load_cycles = int(match["bytes"]), int(match["cycles"])
        elif match := _REGISTER.fullmatch(line):
            self.registers[int(match["address"])] = int(match["value"])
        elif len(self.lines) > 1:
            raise SocError(f"not a line of the firmware: {line!r}")
