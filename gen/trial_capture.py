"""Whether a network could be compiled, found out before it is trained."""

from __future__ import annotations

import torch

from lmht.gen.capture import capture
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.gen.spike_interface import check_spike_interface, take_drawn_spikes
from lmht.model import ConvNetworkConfig, NetworkConfig, OwnSource, SpikingNetwork, build_network
from lmht.model.conversion import convert_with_config

__all__ = ["try_capture"]


def try_capture(config: NetworkConfig | ConvNetworkConfig, source: OwnSource | None = None) -> str | None:
    """Capture a network with fresh weights, of a QCFS network the spiking one that it is converted to.

    Networks in floating point are not meant for hardware; they are not captured.

    Parameters
    ----------
    config : NetworkConfig or ConvNetworkConfig
        The network.
    source : OwnSource, optional
        File of a network of the user's.

    Returns
    -------
    str or None
        Why it can be trained but not compiled: a coding or a read-out that the hardware does not have. None otherwise.

    Raises
    ------
    ValueError
        If the network holds something that the hardware does not have, or cannot be built. One line.
    """
    if config.weight_bits is None:
        return None
    with torch.random.fork_rng(devices=[]):
        network = build_network(config, source=source)
        if config.activation == "qcfs":
            network, _ = convert_with_config(network, config.levels, config.steps)
    try:
        check_spike_interface(network)
    except ValueError as reason:
        return str(reason)
    network = take_drawn_spikes(network)
    try:
        if isinstance(network, SpikingNetwork):
            capture(network)
        else:
            fold_batch_norm(network)
    except ValueError as refusal:
        raise ValueError(
            f"{refusal} (hardware could not be made of the network, so it is not trained; --weight-bits float "
            "trains it all the same)"
        ) from None
    return None
