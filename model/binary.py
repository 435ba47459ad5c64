"""Binary expansion: a network of L levels and T steps as one of L T binary steps (MODEL.md, "What must hold")."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from .config import NetworkConfig
from .network import Layer, Network, analog_image, check_pixels
from .neurons import LMHT
from .spike_fields import ANALOG_CODINGS

__all__ = ["BinaryNetwork", "BinaryNeuron", "ExpansionCheck", "check_expansion", "expand_binary"]


class BinaryNeuron(nn.Module):
    """LM-HT neurons of L levels and T steps, run as L T binary steps.

    With ``t'`` and ``u'`` counting binary steps from 0, and ``t'`` in window ``t' // L``::

        J'[t'] = sum_u' Ω'[t', u'] I'[u'],  Ω'[t', u'] = Ω[t' // L, u' // L] / L
        m[t'] = λ' v[t'-1] + J'[t'],        λ' = λ at the first step of a window, 1 elsewhere
        s[t'] = 1 if m[t'] >= θ, else 0
        v[t'] = m[t'] - θ s[t']

    The current of a window, ``I[u]``, must be the sum of its L currents ``I'[u']``, spread evenly or not.

    Parameters
    ----------
    neuron : LMHT
        Neurons whose L, T, θ, ``v[-1]``, Ω and λ, as they are now, are taken over.
    """

    def __init__(self, neuron: LMHT) -> None:
        super().__init__()
        self.levels = neuron.levels
        self.steps = neuron.steps
        self.theta = neuron.theta
        self.initial_membrane = neuron.initial_membrane
        mixing, leak = neuron.mixing_matrix().detach(), neuron.leak().detach()
        repeated = mixing.repeat_interleave(self.levels, dim=0).repeat_interleave(self.levels, dim=1)
        self.register_buffer("mixing", repeated / self.levels)
        leaks = torch.ones(self.steps, self.levels, dtype=leak.dtype, device=leak.device)
        leaks[:, 0] = leak
        self.register_buffer("leaks", leaks.flatten())

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run the window: currents ``I'`` of shape (L T, batch, N) to ``θ s``, of the same shape."""
        mixed = torch.tensordot(self.get_buffer("mixing"), current, dims=1)
        membrane = torch.full_like(current[0], self.initial_membrane)
        outputs = []
        for leak, step_current in zip(self.get_buffer("leaks"), mixed, strict=True):
            charged = leak * membrane + step_current
            output = self.theta * (charged >= self.theta).to(current.dtype)
            membrane = charged - output
            outputs.append(output)
        return torch.stack(outputs)

    def count_windows(self, output: torch.Tensor) -> torch.Tensor:
        """Spikes of every window, int64 of shape (T, batch, N), from the output of :meth:`forward`."""
        spikes = (output > 0).to(torch.int64)
        return spikes.unflatten(0, (self.steps, self.levels)).sum(dim=1)


class BinaryNetwork(nn.Module):
    """Network whose hidden layers send at most one spike per step, made by :func:`expand_binary`.

    For inference only. The constant part of a current, of bias and batch norm, and that of the analog image
    are spread: each of the L steps of a window receives the L-th part. Spikes are spread as they come.

    Parameters
    ----------
    network : Network
        Spiking network; its weights are copied.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.config: NetworkConfig = network.config
        copied = copy.deepcopy(network).eval().requires_grad_(False)
        self.layers = copied.layers
        neurons = [layer.neuron for layer in _hidden_layers(copied)]
        self.neurons = nn.ModuleList(BinaryNeuron(neuron) for neuron in neurons if neuron is not None)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes), of images as for :meth:`Network.forward`."""
        check_pixels("images", images)
        value = analog_image(images).flatten(1)[None]
        for index in range(len(self.neurons)):
            value = self._run_layer(index, value)
        # Mean over the windows of the sums over their steps: what the classifier adds, it adds once per window.
        windows = self.config.steps if len(value) > 1 else 1
        return cast("Layer", self.layers[-1]).linear(value.sum(dim=0) / windows)

    @torch.no_grad()
    def spike_levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Spikes per window of every hidden layer, int64 of shape (T, batch, N), as :meth:`Network.spike_levels`."""
        value, levels = analog_image(images).flatten(1)[None], []
        for index, neuron in enumerate(self.neurons):
            value = self._run_layer(index, value)
            levels.append(cast("BinaryNeuron", neuron).count_windows(value))
        return levels

    def _run_layer(self, index: int, value: torch.Tensor) -> torch.Tensor:
        layer, neuron = cast("Layer", self.layers[index]), cast("BinaryNeuron", self.neurons[index])
        if index == 0:
            current = _current(layer, value) / neuron.levels
            return neuron(current.expand(neuron.levels * neuron.steps, *current.shape[1:]))
        constant = _current(layer, torch.zeros_like(value[:1, :1]))
        return neuron(_current(layer, value) - constant + constant / neuron.levels)


def expand_binary(network: Network) -> BinaryNetwork:
    """Expand a network of L levels and T steps into one of L T binary steps.

    Every window of a layer then has as many spikes as the neuron's level, and the logits are equal, wherever
    Lemma 4.1 applies (:func:`check_expansion`). A network converted from QCFS (Ω = 1/T, λ = 1, ``v[-1] = θ/2``)
    fulfils it always.

    Parameters
    ----------
    network : Network
        Spiking network; it is left as it is.

    Raises
    ------
    ValueError
        If it is a QCFS network, or codes its image or reads its output in another way than the default.
    """
    _check_expandable(network)
    return BinaryNetwork(network)


def _check_expandable(network: Network) -> None:
    for field, wanted in (("activation", ("lmht",)), ("coding", ANALOG_CODINGS), ("readout", ("mean",))):
        found = getattr(network.config, field)
        if found not in wanted:
            raise ValueError(f"{field} must be {' or '.join(wanted)} for binary expansion, not {found}")


@dataclass(frozen=True)
class ExpansionCheck:
    """How the neurons of one layer fare in binary steps; a run is one neuron's whole window of T for one image.

    Attributes
    ----------
    runs : int
        Neurons times images.
    outside : int
        Runs in which some step is outside the condition under which Lemma 4.1 holds.
    differing : int
        Runs whose spikes differ in some window.
    differing_inside : int
        Those of them that are within the condition at every step: 0 but for rounding.
    """

    runs: int
    outside: int
    differing: int
    differing_inside: int


@torch.no_grad()
def check_expansion(network: Network, images: torch.Tensor) -> list[ExpansionCheck]:
    """Compare every hidden layer with its binary expansion, both on the multi-level network's spikes.

    With the membrane ``v = λ v[t-1]`` and the current ``J[t]`` of a step, the lemma holds for ``0 <= v < θ``, for
    ``v >= 0`` and ``J >= 0``, and for ``v < θ`` and ``J <= L θ``.

    Parameters
    ----------
    network : Network
        Spiking network in evaluation mode.
    images : torch.Tensor
        As for :meth:`Network.forward`.

    Raises
    ------
    ValueError
        If it is a QCFS network, or codes its image or reads its output in another way than the default.
    """
    _check_expandable(network)
    checks, value = [], analog_image(images).flatten(1)[None]
    for layer in _hidden_layers(network):
        neuron = layer.neuron
        assert neuron is not None, "the classifier alone has no neurons"
        current = _current(layer, value)
        current = current.expand(neuron.steps, *current.shape[1:])
        value = neuron(current)
        inside = _lemma_holds(neuron, current, value)
        expanded = BinaryNeuron(neuron)
        spread = current.repeat_interleave(neuron.levels, dim=0) / neuron.levels
        levels = torch.round(value / neuron.theta).to(torch.int64)
        differs = (expanded.count_windows(expanded(spread)) != levels).any(dim=0)
        counts = (differs.numel(), int((~inside).sum()), int(differs.sum()), int((differs & inside).sum()))
        checks.append(ExpansionCheck(*counts))
    return checks


def _lemma_holds(neuron: LMHT, current: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Whether every step of a run is within the condition, shape (batch, N)."""
    mixed = torch.tensordot(neuron.mixing_matrix(), current, dims=1)
    membrane = torch.full_like(current[0], neuron.initial_membrane)
    inside = torch.ones_like(membrane, dtype=torch.bool)
    for step_current, step_output in zip(mixed, output, strict=True):
        start = neuron.leak() * membrane
        not_negative, below = start >= 0, start < neuron.theta
        small = step_current <= neuron.levels * neuron.theta
        inside &= (not_negative & below) | (not_negative & (step_current >= 0)) | (below & small)
        membrane = start + step_current - step_output
    return inside


def _current(layer: Layer, value: torch.Tensor) -> torch.Tensor:
    assert layer.norm is not None, "the classifier alone has no batch norm"
    return layer.norm(layer.linear(value))


def _hidden_layers(network: Network) -> Iterable[Layer]:
    return cast("list[Layer]", list(network.layers)[:-1])
