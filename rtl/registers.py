"""The register map and the list of loadable memories, declared once for RTL, driver header, benches and docs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from lmht.rtl.parameters import DesignParameters, MemoryShape
from lmht.rtl.ports import BUS_ADDRESS_BITS, BUS_DATA_BITS
from lmht.rtl.stages import design_stages

__all__ = [
    "CONTROL_CLEAR",
    "CONTROL_ENABLE",
    "ID_VALUE",
    "VERSION_VALUE",
    "LoadableMemory",
    "Register",
    "RegisterMap",
]

ID_VALUE = 0x4C4D4854
"""``LMHT`` in ASCII."""
VERSION_VALUE = 1
"""Version of this register map."""
CONTROL_ENABLE = 0
"""Bit of ``CONTROL``: frames are accepted."""
CONTROL_CLEAR = 1
"""Bit of ``CONTROL``: writing 1 clears counters and errors; reads as 0."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    Parameters
    ----------
    name : str
    address : int
        In words.
    access : {"ro", "rw", "wo"}
    description : str
    bits : dict of str to int
        Named single bits and their positions, where there are any.
    """

    name: str
    address: int
    access: str
    description: str
    bits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadableMemory:
    """A memory behind ``LOAD_SELECT = index``: `memory` of instance `stage`, of the given shape."""

    index: int
    stage: str
    memory: str
    shape: MemoryShape

    @property
    def name(self) -> str:
        return f"{self.stage}_{self.memory}"

    @property
    def words(self) -> int:
        """Writes to ``LOAD_DATA`` for one row."""
        return -(-self.shape.width // BUS_DATA_BITS)


_FIXED = (
    Register("ID", 0, "ro", "the letters LMHT, 0x4C4D4854"),
    Register("VERSION", 1, "ro", "version of the register map"),
    Register("DESIGN_HASH_LOW", 2, "ro", "low word of the design hash"),
    Register("DESIGN_HASH_HIGH", 3, "ro", "high word of the design hash"),
    Register(
        "CONTROL",
        4,
        "rw",
        "enable: frames are accepted; clear: write 1 to clear all counters and errors",
        {"enable": CONTROL_ENABLE, "clear": CONTROL_CLEAR},
    ),
    Register("STATUS", 5, "ro", "error: some stage has a sticky error", {"error": 0}),
    Register(
        "LOAD_SELECT", 6, "rw", "index of the memory to load; sets the word position back to the row's start"
    ),
    Register("LOAD_ROW", 7, "rw", "row to load; counts up after each row; sets the word position back"),
    Register(
        "LOAD_DATA", 8, "wo", "next word of the row, least significant first; the last one writes the row"
    ),
    Register("CYCLES", 9, "ro", "cycles since the last clear in which frames were accepted"),
)
_FIRST_STAGE_ADDRESS = 16

_COUNTERS = {
    "frames": "frames closed",
    "events": "events sent",
    "events_in": "events taken",
    "events_out": "events sent",
    "dropped": "words dropped as malformed",
    "stalls": "cycles in which work waits",
    "integrate": "cycles the synapse lanes work",
    "update": "cycles the mixing multipliers work",
    "output_stalls": "cycles an output word waits",
}


@dataclass(frozen=True)
class RegisterMap:
    """All registers and loadable memories of a design.

    Counters are called ``<stage>_<pulse>``, sticky errors ``<stage>_errors``, for the stages of
    :func:`~lmht.rtl.stages.design_stages` and the pulses and errors that their components declare.
    """

    parameters: DesignParameters
    registers: tuple[Register, ...]
    memories: tuple[LoadableMemory, ...]

    @classmethod
    def for_design(cls, parameters: DesignParameters) -> RegisterMap:
        """The map of a design.

        Raises
        ------
        ValueError
            If the design has more stages than the address space holds.
        """
        registers = list(_FIXED)
        address = _FIRST_STAGE_ADDRESS
        for stage, declared in design_stages(parameters).items():
            errors = {name: bit for bit, name in enumerate(declared.errors.members)}
            registers.append(Register(f"{stage}_errors", address, "ro", f"sticky errors of {stage}", errors))
            address += 1
            for pulse in declared.pulses.members:
                text = f"{stage}: {_COUNTERS.get(pulse, pulse)}"
                registers.append(Register(f"{stage}_{pulse}", address, "ro", text))
                address += 1
        if address > 2**BUS_ADDRESS_BITS:
            raise ValueError(f"registers must number at most {2**BUS_ADDRESS_BITS}, not {address}")

        memories = [
            (tile.name, memory, shape) for tile in parameters.tiles for memory, shape in tile.memories.items()
        ]
        sources = 1
        for index, tiles in enumerate((*parameters.layers, (None,))):
            memories.append((f"router{index}", "routes", MemoryShape(width=len(tiles), depth=sources)))
            sources = len(tiles)
        return cls(
            parameters,
            tuple(registers),
            tuple(LoadableMemory(index, *memory) for index, memory in enumerate(memories)),
        )

    @cached_property
    def _by_name(self) -> dict[str, Register]:
        return {register.name: register for register in self.registers}

    def __getitem__(self, name: str) -> Register:
        return self._by_name[name]

    def address(self, name: str) -> int:
        """Word address of a register.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        return self._by_name[name].address
