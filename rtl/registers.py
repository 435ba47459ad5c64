"""The register map and the list of loadable memories, declared once for RTL, driver header, benches and docs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_ADDRESS_BITS, BUS_DATA_BITS
from lmht.rtl.projection import IMAGE
from lmht.rtl.stages import design_stages

__all__ = [
    "COUNTERS",
    "FIRST_STAGE_ADDRESS",
    "FIXED_REGISTERS",
    "ID_VALUE",
    "VERSION_VALUE",
    "Field",
    "LoadableMemory",
    "Register",
    "RegisterMap",
]

ID_VALUE = 0x4C4D4854
"""``LMHT`` in ASCII."""
VERSION_VALUE = 2
"""Version of this register map."""


@dataclass(frozen=True)
class Field:
    """Bits ``offset … offset + width - 1`` of a register."""

    offset: int
    width: int = 1
    description: str = ""

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.offset


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    Parameters
    ----------
    name : str
    address : int
        In words.
    access : {"ro", "rw", "wo", "w1c"}
        Read only, read and write, write only (a command), or write 1 to clear.
    description : str
    fields : dict of str to Field
        Where the register is not one number.
    """

    name: str
    address: int
    access: str
    description: str
    fields: dict[str, Field] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        return self.access != "wo"

    @property
    def writable(self) -> bool:
        return self.access != "ro"

    def pack(self, **values: int) -> int:
        """The register's value with these fields set and all others 0.

        Raises
        ------
        ValueError
            If there is no such field, or a value does not fit it.
        """
        word = 0
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"{self.name} has no field {name}; its fields are {', '.join(self.fields)}")
            part = self.fields[name]
            if not 0 <= value < 1 << part.width:
                raise ValueError(
                    f"{self.name}.{name} must be between 0 and {(1 << part.width) - 1}, not {value}"
                )
            word |= value << part.offset
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """All fields of the value `word`."""
        return {name: (word & part.mask) >> part.offset for name, part in self.fields.items()}


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


_CAUSES = {
    "frame_done": Field(0, 1, "the last result word of a frame was taken"),
    "error": Field(1, 1, "a stage reported an error"),
}

FIXED_REGISTERS = tuple(
    Register(name, address, access, description, fields)
    for address, (name, access, description, fields) in enumerate(
        (
            ("ID", "ro", "the letters LMHT, 0x4C4D4854", {}),
            ("VERSION", "ro", "version of the register map", {}),
            ("DESIGN_HASH_LOW", "ro", "low word of the design hash", {}),
            ("DESIGN_HASH_HIGH", "ro", "high word of the design hash", {}),
            ("FRAME_BYTES", "ro", "bytes of an input frame", {}),
            ("CLASSES", "ro", "logits of a result", {}),
            ("CONTROL", "rw", "operation", {"enable": Field(0, 1, "frames are accepted")}),
            (
                "COMMAND",
                "wo",
                "every bit written as 1 acts once, all in the same cycle",
                {
                    "clear": Field(0, 1, "clear all counters, sticky errors and the first error"),
                    "snapshot": Field(1, 1, "copy all counters into the registers they are read from"),
                    "soft_reset": Field(
                        2,
                        1,
                        "give up all frames in flight; loaded memories and all registers stay; of a frame begun, "
                        "the rest is swallowed up to its last beat",
                    ),
                    "new_frame": Field(
                        3, 1, "with soft_reset: nothing is swallowed, the next beat begins a frame"
                    ),
                },
            ),
            (
                "STATUS",
                "ro",
                "state",
                {
                    "error": Field(0, 1, "some stage has a sticky error"),
                    "swallowing": Field(1, 1, "the rest of a frame that a soft reset gave up is awaited"),
                },
            ),
            (
                "LOAD_SELECT",
                "rw",
                "index of the memory to load; sets the word position back to the row's start",
                {},
            ),
            (
                "LOAD_ROW",
                "rw",
                "row to load; counts up after each row; sets the word position back",
                {},
            ),
            (
                "LOAD_DATA",
                "wo",
                "next word of the row, least significant first; the last one writes the row",
                {},
            ),
            ("INTERRUPT_ENABLE", "rw", "causes that raise the interrupt output", _CAUSES),
            ("INTERRUPT_CAUSE", "w1c", "causes seen since they were cleared", _CAUSES),
            (
                "FIRST_ERROR",
                "ro",
                "the first error since the last clear",
                {
                    "errors": Field(0, 8, "the stage's errors, as in its own register"),
                    "stage": Field(
                        8, 16, "number of the stage in the order of this map; the first of several"
                    ),
                    "valid": Field(31, 1, "there was one"),
                },
            ),
            ("FIRST_ERROR_CYCLE", "ro", "live value of CYCLES when the first error was seen", {}),
            ("CYCLES", "ro", "cycles in which frames were accepted, at the last snapshot", {}),
        )
    )
)
"""Registers that every design has, by address."""

FIRST_STAGE_ADDRESS = 32
"""Where the registers of the stages begin."""

COUNTERS = {
    "frames": "frames closed",
    "events": "events sent",
    "events_in": "events taken",
    "events_out": "events sent",
    "dropped": "words dropped as malformed",
    "skipped": "pixels skipped because nothing touched them",
    "stalls": "cycles in which work waits",
    "integrate": "cycles the synapse lanes work",
    "update": "cycles the mixing multipliers work",
    "output_stalls": "cycles an output word waits",
}
"""What the counters of the stages count."""


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
        registers = list(FIXED_REGISTERS)
        address = FIRST_STAGE_ADDRESS
        for number, (stage, declared) in enumerate(design_stages(parameters).items()):
            errors = {name: Field(bit) for bit, name in enumerate(declared.errors.members)}
            text = f"sticky errors of {stage}, stage {number}"
            registers.append(Register(f"{stage}_errors", address, "ro", text, errors))
            address += 1
            for pulse in declared.pulses.members:
                text = f"{stage}: {COUNTERS.get(pulse, pulse)}"
                registers.append(Register(f"{stage}_{pulse}", address, "ro", text))
                address += 1
        if address > 2**BUS_ADDRESS_BITS:
            raise ValueError(f"registers must number at most {2**BUS_ADDRESS_BITS}, not {address}")

        memories = [
            (tile.name, memory, shape) for tile in parameters.tiles for memory, shape in tile.memories.items()
        ]
        for source in range(IMAGE, len(parameters.layers)):
            inputs, outputs = parameters.router_size(source)
            memories.append((f"router{source + 1}", "routes", MemoryShape(width=outputs, depth=inputs)))
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
