"""Valid/ready streams in cocotb benches: sources, sinks, monitors, and the clockwork that moves them.

Waiting for the clock is what costs time in cocotb, so one coroutine waits and all agents are plain objects
whose ``step`` it calls once a cycle. ``step`` runs at the rising edge and sees the values that this edge
samples; what it writes holds for the next one.

    bench = Bench(dut)
    codec = EventCodec(layout)
    source = bench.add(Source(dut, "i", codec))
    sink = bench.add(Sink(dut, "o", codec, ready=randomly(0.5, rng)))
    await bench.reset()
    source.send(events)
    await bench.run_until(lambda: len(sink.words) == 10, limit=1000)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import Pattern, always

__all__ = ["Agent", "Bench", "Codec", "Monitor", "PulseCounter", "Sink", "Source"]


class Codec(Protocol):
    """Packs values into words and back, as :class:`EventCodec` and :class:`StructCodec` do."""

    def pack(self, value: Any, /) -> int: ...

    def unpack(self, word: int, /) -> Any: ...


class Agent(Protocol):
    """What a :class:`Bench` moves."""

    def start(self, bench: Bench) -> None:
        """Drive the pins' values of rest; called when added and at every reset."""

    def step(self) -> None:
        """One rising edge."""


AgentType = TypeVar("AgentType", bound=Agent)


class Bench:
    """Clock, reset and agents of one test.

    Attributes
    ----------
    cycle : int
        Rising edges since the reset ended.
    """

    def __init__(self, dut: Any, period_ns: int = 10):
        self.dut = dut
        self.cycle = 0
        self._agents: list[Agent] = []
        self._edge = RisingEdge(dut.clk)
        self._clock = Clock(dut.clk, period_ns, unit="ns")
        self._running = False

    def add(self, agent: AgentType) -> AgentType:
        """Let `agent` take part; returns it."""
        self._agents.append(agent)
        agent.start(self)
        return agent

    async def reset(self, cycles: int = 2) -> None:
        """Hold the reset for some cycles; agents stand still meanwhile, and forget a word half taken."""
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 1
        for agent in self._agents:
            agent.start(self)
        if not self._running:
            self._clock.start()
            self._running = True
        for _ in range(cycles):
            await self._edge
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 0
        self.cycle = 0

    async def run(self, cycles: int) -> None:
        """Run a number of cycles."""
        await self._run(None, cycles)

    async def run_until(self, done: Callable[[], bool], *, limit: int, what: str = "") -> None:
        """Run until `done` gives true at the end of a cycle.

        Raises
        ------
        AssertionError
            If it does not within `limit` cycles.
        """
        if not await self._run(done, limit):
            state = ", ".join(str(agent) for agent in self._agents if hasattr(agent, "name"))
            raise AssertionError(f"{what or 'the bench'} did not end within {limit} cycles: {state}")

    async def _run(self, done: Callable[[], bool] | None, cycles: int) -> bool:
        edge = self._edge
        steps = [agent.step for agent in self._agents]
        for _ in range(cycles):
            if done is not None and done():
                return True
            await edge
            for step in steps:
                step()
            self.cycle += 1
        return done is None or done()


class _Port:
    """Handles of one stream port, named by its path: ``i``, ``i__0``, …"""

    def __init__(self, dut: Any, name: str):
        self.name = name
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.payload = getattr(dut, f"{name}__payload")
        self.mask = (1 << len(self.payload)) - 1


class Source:
    """Sends words into an input stream of the design.

    Parameters
    ----------
    dut : handle
    name : str
        Path of the stream port.
    codec : Codec, optional
        Packs what :meth:`send` is given; without one it takes words.
    valid : Pattern
        Whether a word is offered in a cycle in which none is pending. Once offered it stays.

    Attributes
    ----------
    accepted : int
        Words that the design has taken.
    """

    def __init__(self, dut: Any, name: str, codec: Codec | None = None, *, valid: Pattern = always):
        self.name = name
        self.codec = codec
        self.accepted = 0
        self._port = _Port(dut, name)
        self.pattern = valid
        self._queue: deque[int] = deque()
        self._offered = False

    def start(self, bench: Bench) -> None:
        self._offered = False
        self._port.valid.value = 0
        self._port.payload.value = 0

    def send(self, items: Iterable[Any]) -> None:
        """Queue values (or words, without a codec)."""
        codec = self.codec
        self._queue.extend(items if codec is None else (codec.pack(item) for item in items))

    def forget(self) -> None:
        """Drop what was not taken; a reset must follow at once."""
        self._queue.clear()

    @property
    def idle(self) -> bool:
        """Everything was taken."""
        return not self._queue

    def step(self) -> None:
        queue = self._queue
        if self._offered:
            if not self._port.ready.value:
                return
            queue.popleft()
            self.accepted += 1
            if queue and self.pattern():
                self._port.payload.value = queue[0]
                return
            self._offered = False
            self._port.valid.value = 0
            # A payload without valid means nothing: let it be wrong.
            self._port.payload.value = self._port.mask
        elif queue and self.pattern():
            self._offered = True
            self._port.valid.value = 1
            self._port.payload.value = queue[0]

    def __str__(self) -> str:
        return f"{self.name}: {self.accepted} words taken, {len(self._queue)} wait"


class Monitor:
    """Collects the words that pass a stream and checks its protocol, without driving anything.

    A word offered must stay, unchanged, until it is taken; valid, ready and a payload that is offered must be
    0 or 1.

    Attributes
    ----------
    words : list of int
        Words that passed.
    cycles : list of int
        The cycle each passed in.
    stalls : int
        Cycles in which a word was offered and not taken.

    Raises
    ------
    AssertionError
        By :meth:`step`, if the protocol is broken.
    """

    def __init__(self, dut: Any, name: str, codec: Codec | None = None):
        self.name = name
        self.codec = codec
        self.words: list[int] = []
        self.cycles: list[int] = []
        self.stalls = 0
        self._port = _Port(dut, name)
        self._pending: int | None = None
        self._bench: Bench

    def start(self, bench: Bench) -> None:
        self._bench = bench
        self._pending = None

    @property
    def items(self) -> list[Any]:
        """The words unpacked by the codec."""
        return self.words if self.codec is None else [self.codec.unpack(word) for word in self.words]

    def take(self) -> list[int]:
        """Remove and return the words collected so far."""
        words, self.words, self.cycles = self.words, [], []
        return words

    def step(self) -> None:
        self._observe(_bit(self._port.ready, self.name))

    def _observe(self, ready: bool) -> None:
        port = self._port
        if not _bit(port.valid, self.name):
            if self._pending is not None:
                raise AssertionError(f"{self._where()}: valid fell before the word was taken")
            return
        value = port.payload.value
        try:
            word = int(value)
        except ValueError:
            raise AssertionError(f"{self._where()}: the payload offered is {value}") from None
        pending = self._pending
        if pending is not None and word != pending:
            raise AssertionError(
                f"{self._where()}: the word changed from {pending:#x} to {word:#x} before it was taken"
            )
        if ready:
            self._pending = None
            self.words.append(word)
            self.cycles.append(self._bench.cycle)
        else:
            self._pending = word
            self.stalls += 1

    def _where(self) -> str:
        return f"stream {self.name}, cycle {self._bench.cycle}"

    def __str__(self) -> str:
        return f"{self.name}: {len(self.words)} words passed"


class Sink(Monitor):
    """A :class:`Monitor` that also drives ready of an output stream of the design.

    Parameters
    ----------
    ready : Pattern
        Whether it is ready in a cycle.
    """

    def __init__(self, dut: Any, name: str, codec: Codec | None = None, *, ready: Pattern = always):
        super().__init__(dut, name, codec)
        self.pattern = ready
        self._ready = False

    def start(self, bench: Bench) -> None:
        super().start(bench)
        self._ready = False
        self._port.ready.value = 0

    def step(self) -> None:
        self._observe(self._ready)
        ready = self.pattern()
        if ready != self._ready:
            self._ready = ready
            self._port.ready.value = int(ready)


class PulseCounter:
    """Adds up the fields of a `pulses` or `errors` port, as the configuration bus does."""

    def __init__(self, dut: Any, name: str, layout: data.Layout):
        self._handle = getattr(dut, name)
        self._codec = StructCodec(layout)
        self._seen: Counter[int] = Counter()

    def start(self, bench: Bench) -> None:
        """Nothing to drive."""

    def step(self) -> None:
        word = int(self._handle.value)
        if word:
            self._seen[word] += 1

    def totals(self) -> dict[str, int]:
        """Sum of every field since the start."""
        totals = dict.fromkeys(self._codec.fields, 0)
        for word, times in self._seen.items():
            for name, value in self._codec.unpack(word).items():
                totals[name] += value * times
        return totals


def _bit(handle: Any, name: str) -> bool:
    value = handle.value
    try:
        return bool(value)
    except ValueError:
        raise AssertionError(f"stream {name}: {handle._name} is {value}") from None
