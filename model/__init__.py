"""LM-HT spiking networks in PyTorch: neurons, quantization-aware networks, data sets, training, checkpoints.

The mathematics is that of the LM-HT paper (NeurIPS 2024). Threshold levels, time steps and weight widths
given here are the ones that the generated hardware has.
"""

from .binary import check_expansion, expand_binary
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .config import (
    ConversionRecord,
    EpochRecord,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
    default_training_config,
    explain_validation_error,
    parse_architecture,
)
from .conversion import convert_qcfs, convert_run
from .data import DATASET_NAMES, DataError, Dataset, load_dataset
from .evaluation import evaluate
from .hybrid import default_fine_tuning_config, train_hybrid
from .network import Layer, Network, QCFSLayer
from .neurons import LMHT, QCFS, default_threshold
from .normalization import TimeBatchNorm
from .quantization import QuantLinear, quantize_symmetric
from .training import RunError, TrainingInterrupted, train

__all__ = [
    "DATASET_NAMES",
    "LMHT",
    "QCFS",
    "CheckpointError",
    "ConversionRecord",
    "DataError",
    "Dataset",
    "EpochRecord",
    "Layer",
    "Network",
    "NetworkConfig",
    "QCFSLayer",
    "QuantLinear",
    "RunConfig",
    "RunError",
    "TimeBatchNorm",
    "TrainingConfig",
    "TrainingInterrupted",
    "check_expansion",
    "convert_qcfs",
    "convert_run",
    "default_fine_tuning_config",
    "default_threshold",
    "default_training_config",
    "evaluate",
    "expand_binary",
    "explain_validation_error",
    "load_checkpoint",
    "load_dataset",
    "parse_architecture",
    "quantize_symmetric",
    "save_checkpoint",
    "train",
    "train_hybrid",
]
