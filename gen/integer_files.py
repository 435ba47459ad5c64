"""The integer network as two files: safetensors for the arrays, JSON for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from lmht.gen.files import write_file
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.model.config import explain_validation_error

__all__ = ["JSON_FILE", "TENSOR_FILE", "IntegerNetworkError", "load_integer_network", "save_integer_network"]

TENSOR_FILE = "integer_network.safetensors"
JSON_FILE = "integer_network.json"


class IntegerNetworkError(ValueError):
    """A stored integer network is missing or damaged; one line names file, field, value and allowed range."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _LayerRecord(_Record):
    """The numbers of one layer that are no arrays; ranges are checked by :class:`IntegerLayer`."""

    shift: int
    levels: int | None
    fraction_bits: int
    leak_bits: int
    initial_membrane: int
    weight_bits: int
    multiplier_bits: int
    input_max_level: int
    leak: bool = Field(description="whether there is a leak array")


class _NetworkRecord(_Record):
    format: Literal["lmht-integer-network"] = "lmht-integer-network"
    version: Literal[1] = 1
    name: str
    input_shape: tuple[int, int, int]
    logit_scale: float
    layers: tuple[_LayerRecord, ...]
    meta: dict[str, Any]


def save_integer_network(network: IntegerNetwork, folder: str | Path) -> None:
    """Write the two files into `folder`; equal networks give equal bytes."""
    folder = Path(folder)
    tensors: dict[str, np.ndarray] = {}
    records = []
    for index, layer in enumerate(network.layers):
        tensors[f"layer{index}.weights"] = layer.weights.astype(np.int8)
        tensors[f"layer{index}.bias"] = np.ascontiguousarray(layer.bias)
        tensors[f"layer{index}.multipliers"] = layer.multipliers.astype(np.int32)
        if layer.leak is not None:
            tensors[f"layer{index}.leak"] = layer.leak.astype(np.int32)
        numbers = {name: getattr(layer, name) for name in _LayerRecord.model_fields if name != "leak"}
        records.append(_LayerRecord(leak=layer.leak is not None, **numbers))
    record = _NetworkRecord(
        name=network.name,
        input_shape=network.input_shape,
        logit_scale=network.logit_scale,
        layers=tuple(records),
        meta=dict(network.meta),
    )
    write_file(folder / TENSOR_FILE, safetensors.numpy.save(tensors))
    write_file(folder / JSON_FILE, (record.model_dump_json(indent=2) + "\n").encode())


def load_integer_network(folder: str | Path) -> IntegerNetwork:
    """Read and check what :func:`save_integer_network` wrote.

    Raises
    ------
    IntegerNetworkError
        If a file is missing or damaged, or a value lies outside its range.
    """
    json_path, tensor_path = Path(folder) / JSON_FILE, Path(folder) / TENSOR_FILE
    try:
        record = _NetworkRecord.model_validate_json(_read(json_path))
    except ValidationError as error:
        raise IntegerNetworkError(f"{json_path}: {explain_validation_error(error)}") from None
    try:
        tensors = safetensors.numpy.load(_read(tensor_path))
    except SafetensorError as error:
        text = " ".join(str(error).split())
        raise IntegerNetworkError(f"{tensor_path}: not a valid safetensors file ({text})") from None

    layers = []
    for index, numbers in enumerate(record.layers):
        arrays: dict[str, Any] = {}
        for name in ("weights", "bias", "multipliers", *(["leak"] if numbers.leak else [])):
            key = f"layer{index}.{name}"
            if key not in tensors:
                raise IntegerNetworkError(f"{tensor_path}: tensor {key} is missing")
            arrays[name] = tensors.pop(key)
        try:
            layers.append(IntegerLayer(**arrays, **numbers.model_dump(exclude={"leak"})))
        except (TypeError, ValueError) as error:
            raise IntegerNetworkError(f"{tensor_path}: layer {index}: {error}") from None
    if tensors:
        raise IntegerNetworkError(f"{tensor_path}: tensor {min(tensors)} is unknown to {JSON_FILE}")
    try:
        return IntegerNetwork(
            name=record.name,
            input_shape=record.input_shape,
            layers=tuple(layers),
            logit_scale=record.logit_scale,
            meta=record.meta,
        )
    except (TypeError, ValueError) as error:
        raise IntegerNetworkError(f"{json_path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise IntegerNetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise IntegerNetworkError(f"{path}: cannot be read ({error.strerror or error})") from None
