"""LM-HT spiking networks in PyTorch: neurons, quantization-aware networks, data sets, training, checkpoints.

The mathematics is that of the LM-HT paper (NeurIPS 2024). Threshold levels, time steps and weight widths
given here are the ones that the generated hardware has.
"""

from .activations import ConversionError
from .binary import check_expansion, expand_binary
from .build_config import BuildConfig
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .config import (
    ConversionRecord,
    ConvNetworkConfig,
    EpochRecord,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
    explain_validation_error,
    parse_architecture,
)
from .conv_config import NET_NAMES
from .conversion import convert_qcfs, convert_run
from .data import DATASET_NAMES, DataError, Dataset, load_dataset
from .evaluation import evaluate
from .hybrid import default_fine_tuning_config, train_hybrid
from .module_conversion import convert_module
from .network import Layer, Network, QCFSLayer
from .neurons import LMHT, QCFS, default_threshold
from .normalization import TimeBatchNorm
from .own_network import OwnNetworkError, OwnSource, is_own_net, read_own_source
from .qcfs_network import QCFSNetwork
from .quantization import QuantConv2d, QuantLinear, quantize_module, quantize_symmetric
from .recipe_files import (
    Recipe,
    RecipeError,
    default_recipe,
    default_training_config,
    read_recipe,
    recipe_names,
)
from .spiking_network import SpikingNetwork
from .tracing import UntraceableError
from .training import RunError, TrainingInterrupted, train
from .window_neurons import WindowLMHT
from .zoo import build_network

__all__ = [
    "DATASET_NAMES",
    "LMHT",
    "NET_NAMES",
    "QCFS",
    "BuildConfig",
    "CheckpointError",
    "ConvNetworkConfig",
    "ConversionError",
    "ConversionRecord",
    "DataError",
    "Dataset",
    "EpochRecord",
    "Layer",
    "Network",
    "NetworkConfig",
    "OwnNetworkError",
    "OwnSource",
    "QCFSLayer",
    "QCFSNetwork",
    "QuantConv2d",
    "QuantLinear",
    "Recipe",
    "RecipeError",
    "RunConfig",
    "RunError",
    "SpikingNetwork",
    "TimeBatchNorm",
    "TrainingConfig",
    "TrainingInterrupted",
    "UntraceableError",
    "WindowLMHT",
    "build_network",
    "check_expansion",
    "convert_module",
    "convert_qcfs",
    "convert_run",
    "default_fine_tuning_config",
    "default_recipe",
    "default_threshold",
    "default_training_config",
    "evaluate",
    "expand_binary",
    "explain_validation_error",
    "is_own_net",
    "load_checkpoint",
    "load_dataset",
    "parse_architecture",
    "quantize_module",
    "quantize_symmetric",
    "read_own_source",
    "read_recipe",
    "recipe_names",
    "save_checkpoint",
    "train",
    "train_hybrid",
]
