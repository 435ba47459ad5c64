"""Initiator of the configuration bus for benches: registers by name."""

from __future__ import annotations

from typing import Any

from lmht.rtl.registers import RegisterMap
from lmht.sim.stream import Bench

__all__ = ["BusInitiator", "answer_cycles"]


def answer_cycles(registers: RegisterMap) -> int:
    """Cycles that an access takes at most: with a sweep of the counters to wait for, 2 more for each register."""
    return 16 + 2 * len(registers.registers)


class BusInitiator:
    """Reads and writes registers, one access at a time.

    Parameters
    ----------
    bench : Bench
        Whose clock is run until the access is answered.
    registers : RegisterMap
    prefix : str
        Path of the bus port.

    Raises
    ------
    AssertionError
        By every access, if there is no answer within :func:`answer_cycles`; by all but :meth:`access`, if the answer
        is an error.
    """

    def __init__(self, bench: Bench, registers: RegisterMap, prefix: str = "bus"):
        self.bench = bench
        self.registers = registers
        dut: Any = bench.dut
        (
            self._valid,
            self._write,
            self._address,
            self._write_data,
            self._ready,
            self._read_data,
            self._error,
        ) = (
            getattr(dut, f"{prefix}__{name}")
            for name in ("valid", "write", "address", "write_data", "ready", "read_data", "error")
        )
        self._valid.value = 0
        self._answer: tuple[int, bool] | None = None
        self._waiting = False
        bench.add(self)

    def start(self, bench: Bench) -> None:
        self._valid.value = 0
        self._waiting = False

    def step(self) -> None:
        if self._waiting and self._ready.value:
            self._answer = int(self._read_data.value), bool(self._error.value)
            self._valid.value = 0
            self._waiting = False

    async def access(self, address: int, write_data: int | None = None) -> tuple[int, bool]:
        """Write `write_data`, or read without it. Returns what was read and whether an error was answered."""
        self._address.value = address
        self._write.value = int(write_data is not None)
        self._write_data.value = write_data or 0
        self._valid.value = 1
        self._waiting = True
        await self.bench.run_until(
            lambda: not self._waiting,
            limit=answer_cycles(self.registers),
            what=f"the access to register {address}",
        )
        assert self._answer is not None
        return self._answer

    async def write_address(self, address: int, value: int) -> None:
        _, error = await self.access(address, value)
        assert not error, f"writing register {address} was answered with an error"

    async def read_address(self, address: int) -> int:
        value, error = await self.access(address)
        assert not error, f"reading register {address} was answered with an error"
        return value

    async def write(self, register: str, value: int = 0, **fields: int) -> None:
        """Write a number, or fields by name."""
        declared = self.registers[register]
        await self.write_address(declared.address, value | declared.pack(**fields))

    async def read(self, register: str) -> int:
        return await self.read_address(self.registers.address(register))

    async def read_fields(self, register: str) -> dict[str, int]:
        return self.registers[register].unpack(await self.read(register))
