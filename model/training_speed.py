"""How much faster the fused neuron trains than the plain loop, and how much less it keeps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from torch.nn import functional as F

from . import native
from .config import ConvNetworkConfig, NetworkConfig
from .memory import keep_freed_memory
from .network import Network
from .neurons import LMHT, QCFS
from .spiking_network import SpikingNetwork
from .zoo import build_network

__all__ = ["SpeedFigure", "TrainingSpeed", "count_saved_bytes", "measure_training_speed"]

NEURONS = (64, 64, 16, 16)


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpeedFigure(_Figures):
    """One comparison.

    Attributes
    ----------
    name : str
        What was run.
    plain_s, fused_s : float
        Medians over the repetitions, in seconds.
    ratio : float
        Median over the repetitions of plain by fused, each pair run one right after the other.
    plain_saved_bytes, fused_saved_bytes : int
        What autograd keeps between forward and backward, every storage once.
    """

    name: str
    plain_s: float
    fused_s: float
    ratio: float
    plain_saved_bytes: int
    fused_saved_bytes: int


class TrainingSpeed(_Figures):
    """Figures of :func:`measure_training_speed`.

    Attributes
    ----------
    torch_version : str
        Version of PyTorch.
    threads : int
        Threads of PyTorch.
    native : bool
        Whether the passes in C++ were used.
    repetitions : int
        Pairs of runs for every figure, after one that is not counted.
    figures : tuple of SpeedFigure
        The neuron at T = 2 and 4, QCFS, and the training steps of 784-128-10 and of ResNet-18.
    """

    torch_version: str
    threads: int
    native: bool
    repetitions: int
    figures: tuple[SpeedFigure, ...]

    def table(self) -> Table:
        """The figures as a table for the terminal."""
        passes = "C++" if self.native else "tensor operations"
        title = f"forward and backward, {self.threads} threads, {passes}, median of {self.repetitions} pairs"
        table = Table(title=title)
        table.add_column("what")
        for name in ("plain ms", "fused ms", "plain / fused", "plain saves MB", "fused saves MB"):
            table.add_column(name, justify="right")
        for figure in self.figures:
            saved = (figure.plain_saved_bytes / 1e6, figure.fused_saved_bytes / 1e6)
            times = (figure.plain_s * 1e3, figure.fused_s * 1e3, figure.ratio)
            table.add_row(figure.name, *(f"{value:.2f}" for value in (*times, *saved)))
        return table


def measure_training_speed(
    repetitions: int = 15, neurons: tuple[int, ...] = NEURONS, batch: int = 128, width: float = 1.0
) -> TrainingSpeed:
    """Compare ``forward`` with ``forward_plain`` of :class:`LMHT` and :class:`QCFS`, and backward, on the CPU.

    From then on the process keeps freed memory (:func:`~lmht.model.memory.keep_freed_memory`), as ``lmht train`` does.

    Parameters
    ----------
    repetitions : int
        Pairs of runs for every figure, at least 1; a third of them for ResNet-18.
    neurons : tuple of int
        Shape of one step's current, batch included.
    batch : int
        Images of the training step of 784-128-10; ResNet-18 has an eighth of them, at least 2.
    width : float
        Factor of ResNet-18's channels.

    Raises
    ------
    ValueError
        If ``repetitions`` is below 1.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, not {repetitions}")
    keep_freed_memory()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        figures = [
            _compare_neurons("neuron", LMHT(levels=2, steps=steps), (steps, *neurons), repetitions)
            for steps in (2, 4)
        ]
        figures.append(_compare_neurons("QCFS", QCFS(levels=4), neurons, repetitions))
        connected = NetworkConfig(architecture="784-128-10")
        figures += [_compare_step(connected, steps, batch, repetitions) for steps in (2, 4)]
        residual = ConvNetworkConfig(net="resnet18", input_shape=(3, 32, 32), classes=10, width=width)
        few = max(1, repetitions // 3)
        figures += [_compare_step(residual, steps, max(2, batch // 8), few) for steps in (2, 4)]
    return TrainingSpeed(
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        native=native.has_library(),
        repetitions=repetitions,
        figures=tuple(figures),
    )


def count_saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of ``forward()``; a storage saved twice counts once."""
    storages: dict[int, int] = {}
    kept = []  # no address is used again while it is counted

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storages.values())


def _compare_neurons(
    name: str, neurons: LMHT | QCFS, shape: tuple[int, ...], repetitions: int
) -> SpeedFigure:
    """Neurons whose learned parts are off their start."""
    with torch.no_grad():
        for parameter in neurons.parameters():
            parameter.add_(torch.rand_like(parameter))
    current = torch.randn(shape, requires_grad=True)
    upstream = torch.randn(shape)

    def run(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        current.grad = None
        neurons.zero_grad()
        forward(current).backward(upstream)

    return _figure(
        f"{name}, {shape}",
        lambda: run(neurons.forward_plain),
        lambda: run(neurons.forward),
        repetitions,
        count_saved_bytes(lambda: neurons.forward_plain(current)),
        count_saved_bytes(lambda: neurons(current)),
    )


def _compare_step(
    config: NetworkConfig | ConvNetworkConfig, steps: int, batch: int, repetitions: int
) -> SpeedFigure:
    """A whole update of a network with L = 2: forward, loss, backward and SGD."""
    networks: list[Network | SpikingNetwork] = []
    for plain in (True, False):
        network = build_network(config.model_copy(update={"levels": 2, "steps": steps}))
        for module in network.modules():
            if plain and isinstance(module, LMHT):
                module.forward = module.forward_plain  # type: ignore[method-assign]
        networks.append(network.train())
    images, labels = torch.rand(batch, *config.input_shape), torch.randint(10, (batch,))
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9) for network in networks]

    def step(index: int) -> None:
        loss = F.cross_entropy(networks[index](images), labels)
        optimizers[index].zero_grad()
        loss.backward()
        optimizers[index].step()

    saved = [count_saved_bytes(lambda network=network: network(images)) for network in networks]  # type: ignore[misc]
    name = f"training step, {config.architecture}, T={steps}, batch {batch}"
    return _figure(name, lambda: step(0), lambda: step(1), repetitions, *saved)


def _figure(
    name: str, plain: Callable[[], None], fused: Callable[[], None], repetitions: int, *saved: int
) -> SpeedFigure:
    pairs = [(_seconds(plain), _seconds(fused)) for _ in range(repetitions + 1)][1:]
    return SpeedFigure(
        name=name,
        plain_s=statistics.median(pair[0] for pair in pairs),
        fused_s=statistics.median(pair[1] for pair in pairs),
        ratio=statistics.median(pair[0] / pair[1] for pair in pairs),
        plain_saved_bytes=saved[0],
        fused_saved_bytes=saved[1],
    )


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
