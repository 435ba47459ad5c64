"""Multi-threshold neurons: LM-HT (and with it M-HT, LIF and IF), and QCFS for hybrid training."""

from typing import Literal

import torch
from torch import nn

from .checks import check_choice, check_integer, check_number, check_positive
from .fused import Staircase, fused_window
from .fused_qcfs import fused_qcfs
from .integer_window import RoundedMixing, integer_window
from .memory_order import in_memory_order
from .surrogate import SurrogateStaircase

__all__ = ["LMHT", "QCFS", "Mixing", "default_threshold"]

Mixing = Literal["learned", "identity", "uniform"]


def default_threshold(levels: int) -> float:
    """Threshold θ of direct training: ``2 / levels`` for more than one level, 1 for one."""
    levels = check_integer("levels", levels, 1)
    return 2 / levels if levels > 1 else 1.0


class LMHT(nn.Module):
    """Layer of learnable multi-hierarchical threshold neurons (MODEL.md, "Neurons").

    For every neuron and step ``t`` of the window, with ``v[-1] = initial_membrane``::

        J[t] = sum_u Ω[t, u] I[u]
        m[t] = λ v[t-1] + J[t]
        k[t] = clamp(floor(m[t] / θ), 0, L)
        v[t] = m[t] - θ k[t]

    With ``mixing="identity"`` it is M-HT; with ``levels=1`` as well, LIF; and with ``leak=1.0`` too, IF.

    The staircase passes the gradient on where ``θ/2 <= m <= (L + 1/2) θ``. With ``detach`` the rest is that of
    Eqs. 13-16: steps exchange gradients only through Ω, and λ learns from the detached ``v[t-1]``. Without, gradients
    pass through ``v[t-1]``, too, as for LIF and IF (Eq. 5; MODEL.md, "Learning").

    Parameters
    ----------
    levels : int
        Number L of threshold levels, at least 1. A spike is an integer level ``0..levels``.
    steps : int
        Number T of time steps of the window, at least 1.
    theta : float
        Firing threshold θ, above 0.
    initial_membrane : float
        Membrane ``v[-1]`` before the first step, absolute as ``theta`` is, not a multiple of it: half a threshold is
        ``theta / 2``.
    mixing : {"learned", "identity", "uniform"}
        ``learned``: Ω = 2 sigmoid(ω) / T with the parameter ``omega_logits``, at the start 1/T everywhere.
        ``identity``: no mixing. ``uniform``: Ω = 1/T, fixed.
    leak : "learned" or float
        ``learned``: λ = sigmoid(α) + 0.5 with the parameter ``leak_logit``, at the start 1. A number from
        0 to 1.5 fixes λ.
    fraction_bits : int or None
        Fraction bits ``F`` of the membrane, 0 to 16, with which mixing, leak and membrane are rounded as in hardware
        (:func:`lmht.model.integer_window.integer_window`); None computes in floating point. A network whose neurons
        have them computes with the hardware's integers outside training (:mod:`lmht.model.hardware`).
    detach : bool or None
        Whether no gradient passes through ``v[t-1]``; None is the rule of the neurons' own paper equations: False with
        ``mixing="identity"``, where steps have no other way to exchange gradients, and True otherwise.

    Attributes
    ----------
    detach : bool
        As given, or that rule.
    omega_logits : torch.nn.Parameter, shape (T, T)
        ω, zeros at the start; only with ``mixing="learned"``.
    leak_logit : torch.nn.Parameter, scalar
        α, zero at the start; only with ``leak="learned"``.
    rounded : RoundedMixing or None
        With ``fraction_bits``, roundings that depend on the weights in front; a network sets them for every pass in
        training.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument lies outside its range.
    """

    def __init__(
        self,
        levels: int,
        steps: int,
        theta: float = 1.0,
        initial_membrane: float = 0.0,
        *,
        mixing: Mixing = "learned",
        leak: Literal["learned"] | float = "learned",
        fraction_bits: int | None = None,
        detach: bool | None = None,
    ) -> None:
        super().__init__()
        if detach is not None and not isinstance(detach, bool):
            raise TypeError(f"detach must be True, False or None, not {detach!r}")
        if fraction_bits is not None:
            fraction_bits = check_integer("fraction_bits", fraction_bits, 0)
            if fraction_bits > 16:
                raise ValueError(f"fraction_bits must be between 0 and 16, or None, not {fraction_bits}")
        self.fraction_bits = fraction_bits
        self.rounded: RoundedMixing | None = None
        self.levels = check_integer("levels", levels, 1)
        self.steps = steps = check_integer("steps", steps, 1)
        self.theta = check_positive("theta", theta)
        self.initial_membrane = check_number("initial_membrane", initial_membrane)
        self.mixing = check_choice("mixing", mixing, ("learned", "identity", "uniform"))
        self.detach = mixing != "identity" if detach is None else detach
        if mixing == "learned":
            self.omega_logits = nn.Parameter(torch.zeros(steps, steps))
        else:
            fixed = torch.eye(steps) if mixing == "identity" else torch.full((steps, steps), 1 / steps)
            self.register_buffer("fixed_mixing", fixed, persistent=False)
        self.has_learned_leak = isinstance(leak, str) and leak == "learned"
        if self.has_learned_leak:
            self.leak_logit = nn.Parameter(torch.zeros(()))
        else:
            if isinstance(leak, str):
                raise ValueError(f'leak must be "learned" or a number between 0 and 1.5, not {leak!r}')
            number = check_number("leak", leak)
            if not 0 <= number <= 1.5:
                raise ValueError(f"leak must be between 0 and 1.5, not {number:g}")
            self.register_buffer("fixed_leak", torch.tensor(number), persistent=False)

    def mixing_matrix(self) -> torch.Tensor:
        """Temporal-Global Information Matrix Ω, shape (T, T); row ``t`` weights the currents of all steps."""
        if self.mixing == "learned":
            return 2 * torch.sigmoid(self.omega_logits) / self.steps
        return self.get_buffer("fixed_mixing")

    def leak(self) -> torch.Tensor:
        """Membrane leak λ, a scalar tensor; 1 is no leak."""
        if self.has_learned_leak:
            return torch.sigmoid(self.leak_logit) + 0.5
        return self.get_buffer("fixed_leak")

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run the window.

        Parameters
        ----------
        current : torch.Tensor, shape (T, batch, ...)
            Input current ``I``, in the units of ``theta``.

        Returns
        -------
        torch.Tensor, shape (T, batch, ...)
            ``θ k[t]``: the spike levels times the threshold.

        Raises
        ------
        ValueError
            If the first dimension of ``current`` is not T.
        """
        self._check_steps(current)
        omega = None if self.mixing == "identity" else self.mixing_matrix()
        staircase = Staircase(self.theta, self.levels, self.initial_membrane, self.detach)
        if self.fraction_bits is not None:
            return integer_window(current, omega, self.leak(), staircase, self.fraction_bits, self.rounded)
        return fused_window(current, omega, self.leak(), staircase)

    def forward_plain(self, current: torch.Tensor) -> torch.Tensor:
        """The window step by step, as the equations stand: the reference that :meth:`forward` is tested with, without
        the roundings of ``fraction_bits``.

        Takes and returns what :meth:`forward` does; slower, and autograd keeps every step's membrane.
        """
        self._check_steps(current)
        if self.mixing == "identity":
            mixed = current
        else:
            mixed = (self.mixing_matrix() @ current.reshape(self.steps, -1)).view(current.shape)
        leak = self.leak()
        membrane = torch.full_like(current[0], self.initial_membrane)
        outputs = []
        for step_current in mixed.unbind(0):
            charged = leak * membrane + step_current
            output = SurrogateStaircase.apply(charged, self.theta, self.levels)
            membrane = charged - output
            if self.detach:
                membrane = membrane.detach()
            outputs.append(output)
        return torch.stack(outputs)

    def _check_steps(self, current: torch.Tensor) -> None:
        if current.dim() == 0 or current.shape[0] != self.steps:
            raise ValueError(
                f"current must have {self.steps} steps in its first dimension, "
                f"not shape {tuple(current.shape)}"
            )

    def extra_repr(self) -> str:
        """Arguments as shown by ``repr``."""
        leak = "learned" if self.has_learned_leak else f"{self.leak().item():g}"
        return (
            f"levels={self.levels}, steps={self.steps}, theta={self.theta:g}, "
            f"initial_membrane={self.initial_membrane:g}, mixing={self.mixing}, leak={leak}, detach={self.detach}"
            + ("" if self.fraction_bits is None else f", fraction_bits={self.fraction_bits}")
        )


class QCFS(nn.Module):
    """Quantization-clip-floor-shift activation (MODEL.md, "Hybrid training", step 1).

    ``a = θ clamp(floor(z Q / θ + 1/2) / Q, 0, 1)``; the floor passes the gradient straight through and θ is
    learned. By Theorem 4.2 a neuron with L levels, threshold ``θ / L``, ``T = Q / L`` steps and ``v[-1]``
    half its threshold has this output as its mean under the constant current ``z``.

    Parameters
    ----------
    levels : int
        Number Q of steps of the staircase, at least 1.
    theta : float
        Upper end of the activation at the start of training, above 0.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument lies outside its range.
    """

    def __init__(self, levels: int, theta: float = 1.0) -> None:
        super().__init__()
        self.levels = check_integer("levels", levels, 1)
        self.theta = nn.Parameter(torch.tensor(check_positive("theta", theta)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Activation of ``z``, element by element, of the same shape and memory format."""
        return in_memory_order(lambda values: fused_qcfs(values, self.theta, self.levels), z)

    def forward_plain(self, z: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward` does, operation by operation: the reference that it is tested with."""
        shifted = z * self.levels / self.theta + 0.5
        staircase = shifted + (torch.floor(shifted) - shifted).detach()
        return self.theta * (staircase / self.levels).clamp(0, 1)

    def extra_repr(self) -> str:
        """Arguments as shown by ``repr``."""
        return f"levels={self.levels}, theta={self.theta.item():g}"
