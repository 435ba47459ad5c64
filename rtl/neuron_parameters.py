"""Elaboration parameters of a layer's neurons."""

from __future__ import annotations

from dataclasses import dataclass

from lmht.rtl.checks import LEVELS_LIMIT, STEPS_LIMIT, check_range

__all__ = ["NeuronParameters"]


@dataclass(frozen=True, kw_only=True)
class NeuronParameters:
    """What NUMERICS.md fixes for one layer, apart from the loadable numbers.

    Parameters
    ----------
    input_steps : int
        Level fields of an input event, ``T_in`` (1 for an analog image), 1 … 32.
    steps : int
        Time steps ``T`` of the layer's own levels, 1 … 32; 1 for a classifier.
    levels : int or None
        Threshold levels ``L``, 1 … 15; ``None`` for a classifier (no neuron: the mixed sum itself is the logit).
    diagonal : bool
        Whether the mixing is diagonal: the current of a step takes the accumulator of that step alone. Only with
        ``T = T_in > 1``.
    accumulator_bits : int
        ``AB``, of ``A[u, n]`` and its partial sums, two's complement.
    multiplier_bits : int
        ``GB``, unsigned.
    shift : int
        ``S``; 0 for a classifier.
    mix_bits : int
        Width of ``sum_u G A`` before the shift, two's complement.
    bias_bits : int
        Width of ``B[t, n]``, two's complement.
    current_bits : int
        Width of ``J``, of the logit in a classifier, two's complement.
    membrane_bits : int
        ``MB``, of ``m`` and ``v``, two's complement (ignored by a classifier).
    fraction_bits : int
        ``F``.
    leak : bool
        False if every ``λ`` is 1: the leak is the identity and costs nothing.
    leak_bits : int
        ``FL``; a leak factor ``q[t]`` has ``FL + 1`` bits.
    """

    input_steps: int
    steps: int
    levels: int | None
    accumulator_bits: int
    multiplier_bits: int
    shift: int
    mix_bits: int
    bias_bits: int
    current_bits: int
    membrane_bits: int = 1
    fraction_bits: int = 8
    leak: bool = False
    leak_bits: int = 8
    diagonal: bool = False

    def __post_init__(self) -> None:
        check_range("input_steps", self.input_steps, 1, STEPS_LIMIT)
        check_range("steps", self.steps, 1, STEPS_LIMIT)
        if self.levels is not None:
            check_range("levels", self.levels, 1, LEVELS_LIMIT)
        check_range("accumulator_bits", self.accumulator_bits, 1, 48)
        check_range("multiplier_bits", self.multiplier_bits, 1, 24)
        check_range("shift", self.shift, 0, 63)
        check_range("mix_bits", self.mix_bits, 1, 80)
        check_range("bias_bits", self.bias_bits, 1, 48)
        check_range("current_bits", self.current_bits, 1, 80)
        check_range("membrane_bits", self.membrane_bits, 1, 80)
        check_range("fraction_bits", self.fraction_bits, 0, 24)
        check_range("leak_bits", self.leak_bits, 1, 16)
        if self.is_classifier and (self.steps != 1 or self.shift != 0):
            raise ValueError("a classifier has steps 1 and shift 0")
        if self.diagonal and not self.steps == self.input_steps > 1:
            raise ValueError(
                f"diagonal must be False unless steps and input_steps are the same and above 1, "
                f"not {self.steps} and {self.input_steps}"
            )

    @property
    def is_classifier(self) -> bool:
        return self.levels is None

    @property
    def mix_terms(self) -> int:
        """Products that a current is the sum of: ``T_in``, or 1 if the mixing is diagonal."""
        return 1 if self.diagonal else self.input_steps

    @property
    def mix_choices(self) -> tuple[int, ...]:
        """Numbers of multipliers that a neuron may be mixed with: for one product, a current, or all currents."""
        return tuple(sorted({1, self.mix_terms, self.steps * self.mix_terms}))

    @property
    def constants_fields(self) -> dict[str, tuple[int, int]]:
        """Row of the constants memory as ``{name: (offset, width)}``: ``v0`` and, with a leak, ``q0`` … ``q{T-1}``.

        Empty for a classifier, which has no constants memory.
        """
        if self.is_classifier:
            return {}
        fields = {"v0": (0, self.membrane_bits)}
        if self.leak:
            width = self.leak_bits + 1
            for step in range(self.steps):
                fields[f"q{step}"] = (self.membrane_bits + step * width, width)
        return fields
