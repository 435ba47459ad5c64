"""Rules of AXI handshakes (ARM IHI 0022, IHI 0051), checked in every cycle without driving anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmht.sim.stream import Bench

__all__ = ["AXI_LITE_CHANNELS", "AxiLiteRules", "ChannelRules"]

AXI_LITE_CHANNELS: Mapping[str, Sequence[str]] = {
    "aw": ("awaddr", "awprot"),
    "w": ("wdata", "wstrb"),
    "b": ("bresp",),
    "ar": ("araddr", "arprot"),
    "r": ("rdata", "rresp"),
}
"""Channels of AXI4-Lite and what each carries."""


class ChannelRules:
    """One channel: an agent of a :class:`~lmht.sim.stream.Bench`.

    Once VALID is 1, it and everything the channel carries stay as they are until READY; in the cycle after one with
    reset VALID is 0.

    Parameters
    ----------
    dut : handle
    prefix : str
        Before every signal's name, such as ``axi__``.
    name : str
        Of the channel, before ``valid`` and ``ready``.
    payload : sequence of str

    Attributes
    ----------
    transfers, waits : int
        Cycles with a transfer, and with VALID but no READY.

    Raises
    ------
    AssertionError
        By :meth:`step`, if a rule is broken.
    """

    def __init__(self, dut: Any, prefix: str, name: str, payload: Sequence[str]):
        self.name = name
        self.transfers = 0
        self.waits = 0
        self._reset = dut.rst
        self._valid = getattr(dut, f"{prefix}{name}valid")
        self._ready = getattr(dut, f"{prefix}{name}ready")
        self._payload = [getattr(dut, f"{prefix}{signal}") for signal in payload]
        self._pending: list[int] | None = None
        self._after_reset = False
        self._bench: Bench

    def start(self, bench: Bench) -> None:
        self._bench = bench
        self._pending = None

    def step(self) -> None:
        valid, ready = bool(self._valid.value), bool(self._ready.value)
        if self._after_reset:
            assert not valid, f"{self._where()}: VALID is 1 in reset"
        self._after_reset = bool(self._reset.value)
        if self._after_reset:
            self._pending = None
            return
        if not valid:
            assert self._pending is None, f"{self._where()}: VALID fell before READY"
            return
        words = [int(signal.value) for signal in self._payload]
        assert self._pending is None or words == self._pending, (
            f"{self._where()}: {words} was offered, {self._pending} before, without READY in between"
        )
        self._pending = None if ready else words
        self.transfers += ready
        self.waits += not ready

    def _where(self) -> str:
        return f"channel {self.name}, cycle {self._bench.cycle}"


class AxiLiteRules:
    """All channels of AXI4-Lite, and that every response follows what it answers.

    Parameters
    ----------
    dut : handle
    prefix : str
    """

    def __init__(self, dut: Any, prefix: str):
        self._reset = dut.rst
        self.channels = {
            name: ChannelRules(dut, prefix, name, payload) for name, payload in AXI_LITE_CHANNELS.items()
        }
        self._valid = {name: getattr(dut, f"{prefix}{name}valid") for name in ("b", "r")}
        # Transfers up to the cycle before: a response must not come in the cycle of its request.
        self._before = dict.fromkeys(AXI_LITE_CHANNELS, 0)

    def start(self, bench: Bench) -> None:
        for channel in self.channels.values():
            channel.start(bench)

    def step(self) -> None:
        before = self._before
        if self._reset.value:
            for name, channel in self.channels.items():
                channel.step()
                channel.transfers = before[name] = 0
            return
        answered_writes = before["b"] + bool(self._valid["b"].value)
        assert answered_writes <= min(before["aw"], before["w"]), "BVALID without address and data of a write"
        answered_reads = before["r"] + bool(self._valid["r"].value)
        assert answered_reads <= before["ar"], "RVALID without the address of a read"
        for name, channel in self.channels.items():
            channel.step()
            before[name] = channel.transfers
