"""Options of the compiler."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmht.gen.choose_precision import Bits

__all__ = ["CompileOptions"]

_Lanes = Annotated[int, Field(ge=1, le=128)]
_Part = Annotated[float, Field(ge=0, le=1)]


class CompileOptions(BaseModel):
    """Options of :func:`~lmht.gen.compile.compile_network`.

    Attributes
    ----------
    name : str or None
        Name of the top module and of the files, a Verilog identifier; None takes that of the run's folder.
    lanes, lane_budget, device, split, bytes_per_beat, update_lanes, mix_multipliers, tap_unroll, skip_quiet : optional
        What :class:`~lmht.gen.plan.PlanOptions` says.
    fraction_bits : int or None
        ``F`` of NUMERICS.md; None takes that with which the neurons were trained
        (:attr:`lmht.model.LMHT.fraction_bits`), or 8, or 20 for deep networks.
    multiplier_bits, leak_bits, gain_bits : int or None
        ``GB``, ``FL`` and ``RB``; None takes the defaults of :func:`~lmht.gen.quantize.quantize`,
        or of deep networks (:data:`~lmht.gen.choose_precision.DEEP_BITS`), as for ``fraction_bits``.
    fidelity : float or None
        Choose all bits so that this part of the calibration images, above 0 to 1, gets the same class in PyTorch and in
        integers (:func:`~lmht.gen.choose_precision.choose_precision`); not with bits that are given.
    weight_bits : int
        Width, 2 to 8, to which weights are rounded that were trained without integers.
    binary : bool
        Expand a trained network of L levels and T steps into one of L T binary steps
        (:func:`~lmht.gen.expand_binary.expand_binary`).
    bus : {"plain", "axi", "wishbone"}
        Emit the design behind AXI4-Lite or Wishbone and AXI4-Stream, too; needs 4 or 8 bytes a beat.
    pixel_density, spike_density : optional
        What :func:`~lmht.gen.plan.expected_events` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    lanes: _Lanes | Annotated[tuple[_Lanes, ...], Field(strict=False)] | None = None
    lane_budget: int | None = Field(default=None, ge=1)
    device: str | None = None
    split: dict[int, int] = Field(default_factory=dict)
    fraction_bits: int | None = Field(default=None, ge=0, le=24)
    multiplier_bits: int | None = Field(default=None, ge=1, le=24)
    leak_bits: int | None = Field(default=None, ge=1, le=16)
    gain_bits: int | None = Field(default=None, ge=1, le=20)
    fidelity: float | None = Field(default=None, gt=0, le=1)
    weight_bits: int = Field(default=8, ge=2, le=8)
    bytes_per_beat: int = 8
    update_lanes: int | None = Field(default=None, ge=1)
    mix_multipliers: int | None = Field(default=None, ge=1)
    tap_unroll: bool | dict[int, bool] | None = None
    skip_quiet: bool = True
    binary: bool = False
    bus: Literal["plain", "axi", "wishbone"] = "plain"
    pixel_density: _Part | None = None
    spike_density: _Part | tuple[_Part, ...] | None = None

    @property
    def given_bits(self) -> dict[str, int]:
        """Bits of NUMERICS.md that are given, by their names."""
        found = {name: getattr(self, name) for name in Bits.model_fields}
        return {name: bits for name, bits in found.items() if bits is not None}

    @model_validator(mode="after")
    def _bits_are_chosen_or_given(self) -> Self:
        if self.fidelity is not None and self.given_bits:
            raise ValueError(
                f"fidelity chooses {', '.join(self.given_bits)}: give either the bits or the fidelity"
            )
        return self
