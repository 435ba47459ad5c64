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
from lmht.sim.exact_network import exact_logits
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
        (20, 17, 16, 15),
        (21, 20, 16, 17),
        (22, 22, 16, 18),
        (23, 24, 16, 20),
    )
)
"""What is tried, the cheapest first. Gains cost accumulators, and the others little but wider adders; multipliers of
more than 17 bits do not fit the 18 signed ones of a DSP block."""

DEEP_BITS = LADDER[5]
"""Default of networks with more layers than :data:`SHALLOW_LAYERS`: a level that moves in one layer moves others in the
next, so that the same roundings cost a deep network far more classes."""

SHALLOW_LAYERS = 4

NOISE_LIMIT = 0.01
"""Part of the images that may be left to the noise of float32: far more than it was seen to decide."""


class PrecisionTrial(BaseModel):
    """Bits that were tried, and what came of them.

    Attributes
    ----------
    bits : str
        Bits of the layers, in words.
    agreement : float
        Part of the calibration images, without those undecided, that have the same class in PyTorch and by the golden
        model.
    undecided : int
        Images whose class in PyTorch is decided by the noise of float32: without rounding it is another.
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
    undecided: int = 0
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

    Images that PyTorch classifies by the noise of float32 do not count: no integers can follow it. They are those
    whose class is another where nothing is rounded (:func:`~lmht.sim.exact_network.exact_logits`), and few; more than
    :data:`NOISE_LIMIT` are no noise, and all count.

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
    search = _Search(network, calibration, name, _find_decided(network, calibration))
    layers = len(network.layers)
    for rung in range(len(LADDER)):
        if search.agreement([rung] * layers) >= target:
            break
    else:
        best = max(search.trials, key=lambda trial: trial.agreement, default=None)
        refused = f" ({search.refusal})" if search.refusal else ""
        reason = f"no bits fit{refused}"
        if best is not None:
            reason = f"bits {best.bits} reach no more" + (
                f", and others do not fit{refused}" if refused else ""
            )
        raise ValueError(
            f"fidelity must be at most {0 if best is None else best.agreement:.4f} for this network on "
            f"{int(search.decided.sum())} calibration images, not {target:g}: {reason}"
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
    decided: torch.Tensor
    trials: list[PrecisionTrial] = field(default_factory=list)
    refusal: str = ""  # why the last bits that do not fit do not

    def agreement(self, rungs: Sequence[int]) -> float:
        """Of the layers' rungs of the ladder; -1 where a number outgrows what hardware or golden model have."""
        try:
            integers = quantize(self.network, name=self.name, **_arguments(rungs))
            widths = choose_widths(integers)
            result = GoldenModel(integers).run(self.calibration.images)
        except ValueError as refusal:
            self.refusal = str(refusal)
            return -1.0
        wanted = self.calibration.logits.double()
        error = result.logits.double() * integers.logit_scale - wanted
        counts = {str(LADDER[rung]): list(rungs).count(rung) for rung in sorted(set(rungs))}
        same = (result.predictions == wanted.argmax(dim=1))[self.decided]
        trial = PrecisionTrial(
            bits="; ".join(
                bits if len(counts) == 1 else f"{bits} in {count} layers" for bits, count in counts.items()
            ),
            agreement=float(same.double().mean()),
            undecided=int((~self.decided).sum()),
            logit_error=float(error.norm() / wanted.norm().clamp(min=1e-30)),
            accumulator_bits=sum(
                layer.neurons * layer.input_steps * width.accumulator_bits
                for layer, width in zip(integers.layers, widths, strict=True)
            ),
            constant_bits=_constant_bits(integers, [width.bias_bits for width in widths]),
        )
        self.trials.append(trial)
        return trial.agreement


def _find_decided(network: FoldedNetwork, calibration: Calibration) -> torch.Tensor:
    """Which images have the class that PyTorch gives them without any rounding, too; bool, shape (N,)."""
    exact = exact_logits(network, calibration.images).argmax(dim=1)
    decided = exact == calibration.logits.argmax(dim=1)
    few = (~decided).double().mean() <= NOISE_LIMIT
    return decided if few else torch.ones_like(decided)


def _constant_bits(integers: IntegerNetwork, bias_bits: Sequence[int]) -> int:
    return sum(
        layer.multipliers.size * layer.multiplier_bits + layer.bias.size * width
        for layer, width in zip(integers.layers, bias_bits, strict=True)
    )


def trials_table(trials: Sequence[PrecisionTrial]) -> Table:
    """What was tried, for a terminal."""
    undecided = max(trial.undecided for trial in trials)
    table = Table(
        title="precision: bits of membrane, multipliers, leak and gains that were tried",
        caption=f"without {undecided} images whose class in PyTorch is the noise of float32"
        if undecided
        else None,
    )
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
