"""Pass between balancing and quantization, on demand: the cheapest bits with which the integers agree with PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from lmht.gen.choose_widths import choose_widths
from lmht.gen.folded import FoldedNetwork
from lmht.gen.integer import IntegerNetwork
from lmht.gen.quantize import quantize
from lmht.sim.golden import GoldenModel

__all__ = [
    "DEEP_BITS",
    "LADDER",
    "SHALLOW_LAYERS",
    "Bits",
    "Calibration",
    "PrecisionTrial",
    "choose_precision",
    "trials_table",
]


class Bits(BaseModel):
    """Bits of a layer's roundings (NUMERICS.md): ``F``, ``GB``, ``FL`` and ``RB``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    fraction_bits: int
    multiplier_bits: int
    leak_bits: int
    gain_bits: int

    def __str__(self) -> str:
        return f"{self.fraction_bits}, {self.multiplier_bits}, {self.leak_bits}, {self.gain_bits}"


LADDER = tuple(
    Bits(fraction_bits=fraction, multiplier_bits=multiplier, leak_bits=leak, gain_bits=gain)
    for fraction, multiplier, leak, gain in (
        (5, 9, 6, 7),
        (6, 10, 7, 8),
        (8, 12, 8, 10),
        (10, 14, 10, 12),
        (12, 16, 12, 14),
        (14, 18, 14, 16),
        (16, 20, 16, 17),
        (18, 22, 16, 18),
        (20, 24, 16, 18),
    )
)
"""What is tried, the cheapest first."""

DEEP_BITS = Bits(fraction_bits=16, multiplier_bits=17, leak_bits=16, gain_bits=13)
"""Default of networks with more layers than :data:`SHALLOW_LAYERS`: a level that moves in one layer moves others in the
next, so that the same roundings cost a deep network far more classes. 17 unsigned bits fit the 18 of a DSP block."""

SHALLOW_LAYERS = 4


class PrecisionTrial(BaseModel):
    """Bits that were tried, and what came of them.

    Attributes
    ----------
    bits : str
        Bits of the layers, in words.
    agreement : float
        Part of the calibration images that have the same class in PyTorch and by the golden model.
    logit_error : float
        Root mean square of the logits' difference over that of PyTorch's logits.
    accumulator_bits : int
        Accumulators of all layers' whole maps.
    constant_bits : int
        Multipliers and biases of all layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    bits: str
    agreement: float
    logit_error: float
    accumulator_bits: int
    constant_bits: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """Images on which bits are chosen.

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (N, C, H, W)
        As hardware takes them.
    logits : torch.Tensor, shape (N, classes)
        Of the trained network in PyTorch.
    """

    images: torch.Tensor
    logits: torch.Tensor


def choose_precision(
    network: FoldedNetwork, calibration: Calibration, target: float, *, name: str
) -> tuple[dict[str, list[int]], list[PrecisionTrial]]:
    """The cheapest bits of every layer with which a part `target` of the calibration images gets the same class.

    All layers climb :data:`LADDER` together until the target is reached. Then layers step down again where that keeps
    it: all together, or else one half of them after the other, and so on, the costliest half first.

    Parameters
    ----------
    network : FoldedNetwork
        With balanced scales.
    calibration : Calibration
    target : float
        Above 0, to 1: every image.
    name : str
        Of the network.

    Returns
    -------
    bits : dict of str to list of int
        Arguments of :func:`~lmht.gen.quantize.quantize`.
    trials : list of PrecisionTrial
        In their order.

    Raises
    ------
    ValueError
        If no bits reach the target; the message says what the best do.
    """
    search = _Search(network, calibration, name)
    layers = len(network.layers)
    for rung in range(len(LADDER)):
        if search.agreement([rung] * layers) >= target:
            break
    else:
        best = max(search.trials, key=lambda trial: trial.agreement, default=None)
        raise ValueError(
            f"fidelity must be at most {0 if best is None else best.agreement:.4f} for this network on "
            f"{len(calibration.images)} calibration images, not {target:g}: "
            + ("no bits fit" if best is None else f"bits {best.bits} reach no more")
        )
    rungs = [rung] * layers

    def step_down(group: Sequence[int]) -> None:
        lower = [max(0, value - 1) if index in group else value for index, value in enumerate(rungs)]
        if lower == rungs:
            return
        if search.agreement(lower) >= target:
            rungs[:] = lower
        elif len(group) > 1:
            middle = (len(group) + 1) // 2
            step_down(group[:middle])
            step_down(group[middle:])

    costly = sorted(range(layers), key=lambda index: -_map_size(network, index))
    # All layers together were tried one rung below, on the way up.
    middle = (layers + 1) // 2
    for group in (costly[:middle], costly[middle:]):
        if group:
            step_down(group)
    return _arguments(rungs), search.trials


def _map_size(network: FoldedNetwork, index: int) -> int:
    return math.prod(network.layers[index].projections[0].output_shape)


def _arguments(rungs: Sequence[int]) -> dict[str, Any]:
    return {bits: [getattr(LADDER[rung], bits) for rung in rungs] for bits in Bits.model_fields}


@dataclass(eq=False)
class _Search:
    """Tries bits and writes down what came of them."""

    network: FoldedNetwork
    calibration: Calibration
    name: str
    trials: list[PrecisionTrial] = field(default_factory=list)

    def agreement(self, rungs: Sequence[int]) -> float:
        """Of the layers' rungs of the ladder; -1 where a number outgrows what hardware or golden model have."""
        try:
            integers = quantize(self.network, name=self.name, **_arguments(rungs))
            widths = choose_widths(integers)
            result = GoldenModel(integers).run(self.calibration.images)
        except ValueError:
            return -1.0
        wanted = self.calibration.logits.double()
        error = result.logits.double() * integers.logit_scale - wanted
        counts = {str(LADDER[rung]): list(rungs).count(rung) for rung in sorted(set(rungs))}
        trial = PrecisionTrial(
            bits="; ".join(
                bits if len(counts) == 1 else f"{bits} in {count} layers" for bits, count in counts.items()
            ),
            agreement=float((result.predictions == wanted.argmax(dim=1)).double().mean()),
            logit_error=float(error.norm() / wanted.norm().clamp(min=1e-30)),
            accumulator_bits=sum(
                layer.neurons * layer.input_steps * width.accumulator_bits
                for layer, width in zip(integers.layers, widths, strict=True)
            ),
            constant_bits=_constant_bits(integers, [width.bias_bits for width in widths]),
        )
        self.trials.append(trial)
        return trial.agreement


def _constant_bits(integers: IntegerNetwork, bias_bits: Sequence[int]) -> int:
    return sum(
        layer.multipliers.size * layer.multiplier_bits + layer.bias.size * width
        for layer, width in zip(integers.layers, bias_bits, strict=True)
    )


def trials_table(trials: Sequence[PrecisionTrial]) -> Table:
    """What was tried, for a terminal."""
    table = Table(title="precision: bits of membrane, multipliers, leak and gains that were tried")
    table.add_column("F, GB, FL, RB")
    for header in ("same class", "logits off by", "accumulator bits", "bits of constants"):
        table.add_column(header, justify="right")
    for trial in trials:
        table.add_row(
            trial.bits,
            f"{trial.agreement:.2%}",
            f"{trial.logit_error:.3%}",
            f"{trial.accumulator_bits:,}",
            f"{trial.constant_bits:,}",
        )
    return table
