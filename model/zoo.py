"""Networks by name, from their configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from .build_config import BuildConfig
from .config import NetworkConfig
from .conv_config import NET_NAMES, ConvNetworkConfig
from .lenet import build_lenet
from .mnist_cnn import build_mnist_cnn
from .network import Network
from .own_network import OwnNetworkError, OwnSource, build_own_network, read_own_source
from .qcfs_network import wrap_module
from .resnet import SHAPES as RESNET_SHAPES
from .resnet import build_resnet
from .spiking_network import SpikingNetwork
from .vgg import SHAPES as VGG_SHAPES
from .vgg import build_vgg

__all__ = ["BUILDERS", "build_network"]

BUILDERS: dict[str, Callable[[BuildConfig], nn.Module]] = {
    "mnist-cnn": build_mnist_cnn,
    "lenet": build_lenet,
    **{name: partial(build_vgg, name=name) for name in VGG_SHAPES},
    **{name: partial(build_resnet, name=name) for name in RESNET_SHAPES},
}
assert set(BUILDERS) == set(NET_NAMES), "a network and its name are added together"


def build_network(
    config: NetworkConfig | ConvNetworkConfig,
    folder: str | Path | None = None,
    source: OwnSource | None = None,
) -> Network | SpikingNetwork:
    """Network of a configuration, with fresh weights.

    Parameters
    ----------
    config : NetworkConfig or ConvNetworkConfig
        Fully connected, or with convolutions; then all its convolutions and linear layers become quantized
        ones, as :func:`lmht.model.quantize_module` does it, and with ``activation="qcfs"`` it is a
        :class:`lmht.model.QCFSNetwork`.
    folder : path, optional
        Folder that holds the user's file, if the network is one of the user's.
    source : OwnSource, optional
        That file itself.

    Raises
    ------
    ValueError
        If the network cannot be built for images of this size.
    OwnNetworkError
        If the user's file or function is missing, fails, or returns something else than a network, or the file
        is not that of the configuration.
    """
    if isinstance(config, NetworkConfig):
        return Network(config)
    told = BuildConfig.of(config)
    if config.is_own:
        source = source or read_own_source(config.net, folder or ".")
        if source.sha256 != config.source_sha256:
            raise OwnNetworkError(
                f"{source.path}: SHA-256 is {source.sha256}, expected {config.source_sha256}"
            )
        return build_own_network(source, told)
    return wrap_module(BUILDERS[config.net](told), config)
