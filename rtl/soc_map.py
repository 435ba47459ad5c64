"""Address map of the RISC-V system, declared once for its Verilog, its firmware and its flash."""

from __future__ import annotations

from dataclasses import dataclass

from lmht.rtl.ports import BUS_ADDRESS_BITS
from lmht.rtl.registers import Field, Register

__all__ = [
    "CLOCKS_PER_BIT",
    "CORE",
    "CORE_INTERRUPT",
    "DEVICES",
    "DEVICE_REGISTERS",
    "FLASH",
    "FLASH_HEADER",
    "INTERRUPT_VECTOR",
    "RAM",
    "REGIONS",
    "SELECT_BITS",
    "Region",
    "device_register",
]

SELECT_BITS = 4
"""Highest bits of an address, which choose the region."""


@dataclass(frozen=True)
class Region:
    """Bytes ``base … base + size - 1`` of the processor's addresses.

    Parameters
    ----------
    name : str
    base : int
        Its highest :data:`SELECT_BITS` bits are the region's own, the others 0.
    size : int
        A power of two, in bytes.
    description : str
    """

    name: str
    base: int
    size: int
    description: str

    @property
    def words(self) -> int:
        """Size in words of 32 bits."""
        return self.size // 4


DEVICE_REGISTERS = tuple(
    Register(name, address, access, description, fields)
    for address, (name, access, description, fields) in enumerate(
        (
            ("UART_DATA", "wo", "bits 7:0: next character to send; only while not full", {}),
            (
                "UART_STATUS",
                "ro",
                "state of the UART",
                {
                    "full": Field(0, 1, "no character can be taken"),
                    "busy": Field(1, 1, "a character is being sent or waits"),
                },
            ),
            ("FRAME_ADDRESS", "wo", "first byte of the frame to send, in RAM or flash, a multiple of 4", {}),
            ("FRAME_LENGTH", "wo", "its bytes; writing sends it as one packet; only while not busy", {}),
            ("FRAME_STATUS", "ro", "state of the frame's way", {"busy": Field(0, 1, "it is being sent")}),
            ("RESULT_COUNT", "ro", "words of results that have come and were not read", {}),
            ("RESULT_DATA", "ro", "next word of a result; reading takes it; 0 where there is none", {}),
            (
                "FRAME_CYCLES",
                "ro",
                "clock cycles from the last frame's first beat to the last word of its result",
                {},
            ),
            ("CORE_REFUSED", "w1c", "the core answered an access with SLVERR", {"refused": Field(0)}),
            ("EXIT", "wo", "bits 7:0: status with which the simulation ends", {}),
        )
    )
)
"""Registers of the devices, by address in words."""

RAM = Region("ram", 0x0000_0000, 64 * 1024, "program, data and stack")
FLASH = Region("flash", 0x2000_0000, 16 * 1024 * 1024, "read only: memory image and frames")
CORE = Region("core", 0x4000_0000, 4 << BUS_ADDRESS_BITS, "registers of the lmht core, through AXI4-Lite")
DEVICES = Region("devices", 0x5000_0000, 64, "UART, streams of the core, end of the simulation")
REGIONS = (RAM, FLASH, CORE, DEVICES)
"""All that the processor can reach; an access to any other address ends the simulation."""

FLASH_HEADER = (
    ("image_offset", "of the memory image from the flash's base, in bytes"),
    ("image_bytes", "its length"),
    ("frames_offset", "of the first frame, in bytes"),
    ("frame_stride", "from one frame to the next, in bytes, a multiple of 4"),
    ("frames", "how many there are"),
    ("timeout_cycles", "that no frame's result takes"),
)
"""Words of 32 bits with which the flash begins."""

CORE_INTERRUPT = 3
"""Number of the core's interrupt; the processor has taken 0 to 2 for itself."""
INTERRUPT_VECTOR = 0x10
"""Where the processor goes on an interrupt; it starts at 0."""
CLOCKS_PER_BIT = 8
"""Of the UART: 8 data bits, no parity, one stop bit."""


def device_register(name: str) -> Register:
    """A register of the devices by its name.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    return {register.name: register for register in DEVICE_REGISTERS}[name]
