"""The integer network as two files: safetensors for the arrays, JSON for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError

from lmht.gen.files import write_file
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.model.config import explain_validation_error
from lmht.rtl.projection import Pooling

__all__ = ["JSON_FILE", "TENSOR_FILE", "IntegerNetworkError", "load_integer_network", "save_integer_network"]

TENSOR_FILE = "integer_network.safetensors"
JSON_FILE = "integer_network.json"
VERSION: Literal[3] = 3


class IntegerNetworkError(ValueError):
    """A stored integer network is missing or damaged; one line names file, field, value and allowed range."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _PoolingRecord(_Record):
    kind: Literal["sum", "max"]
    size: tuple[int, int]


class _ProjectionRecord(_Record):
    """What of an :class:`IntegerProjection` is no array; it checks the ranges."""

    source: int
    input_shape: tuple[int, int, int]
    weight_bits: int
    shift: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    pooling: _PoolingRecord | None
    input_steps: int
    input_max_level: int


class _LayerRecord(_Record):
    """What of an :class:`IntegerLayer` is no array; it checks the ranges."""

    projections: tuple[_ProjectionRecord, ...]
    shift: int
    levels: int | None
    fraction_bits: int
    leak_bits: int
    initial_membrane: int
    multiplier_bits: int
    leak: bool = Field(description="whether there is a leak array")


class _NetworkRecord(_Record):
    format: Literal["lmht-integer-network"] = "lmht-integer-network"
    version: Literal[3] = VERSION
    name: str
    input_shape: tuple[int, int, int]
    logit_scale: float
    layers: tuple[_LayerRecord, ...]
    meta: dict[str, Any]

    @field_validator("version", mode="before")
    @classmethod
    def _check_version(cls, found: object) -> object:
        if isinstance(found, int) and found != VERSION:
            age = "an older" if found < VERSION else "a newer"
            raise ValueError(
                f"must be {VERSION}, not {found}: written by {age} lmht; compile the network anew"
            )
        return found


def save_integer_network(network: IntegerNetwork, folder: str | Path) -> None:
    """Write the two files into `folder`; equal networks give equal bytes.

    Weights of up to 8 bits are stored as int8, wider ones as int32.
    """
    folder = Path(folder)
    tensors: dict[str, np.ndarray] = {}
    records = []
    for index, layer in enumerate(network.layers):
        for number, projection in enumerate(layer.projections):
            stored = np.int8 if projection.weight_bits <= 8 else np.int32
            tensors[_weights_key(index, number)] = projection.weights.astype(stored)
        tensors[f"layer{index}.bias"] = np.ascontiguousarray(layer.bias)
        tensors[f"layer{index}.multipliers"] = layer.multipliers.astype(np.int32)
        if layer.leak is not None:
            tensors[f"layer{index}.leak"] = layer.leak.astype(np.int32)
        records.append(_layer_record(layer))
    record = _NetworkRecord(
        name=network.name,
        input_shape=network.input_shape,
        logit_scale=network.logit_scale,
        layers=tuple(records),
        meta=dict(network.meta),
    )
    write_file(folder / TENSOR_FILE, safetensors.numpy.save(tensors))
    write_file(folder / JSON_FILE, (record.model_dump_json(indent=2) + "\n").encode())


def _weights_key(layer: int, projection: int) -> str:
    return f"layer{layer}.projection{projection}.weights"


def _layer_record(layer: IntegerLayer) -> _LayerRecord:
    def numbers(record: type[_Record], source: object, *others: str) -> dict[str, Any]:
        return {name: getattr(source, name) for name in record.model_fields if name not in others}

    projections = [
        _ProjectionRecord(
            pooling=None
            if projection.pooling is None
            else _PoolingRecord(**numbers(_PoolingRecord, projection.pooling)),
            **numbers(_ProjectionRecord, projection, "pooling"),
        )
        for projection in layer.projections
    ]
    return _LayerRecord(
        projections=tuple(projections),
        leak=layer.leak is not None,
        **numbers(_LayerRecord, layer, "projections", "leak"),
    )


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

    def take(key: str) -> np.ndarray:
        if key not in tensors:
            raise IntegerNetworkError(f"{tensor_path}: tensor {key} is missing")
        return tensors.pop(key)

    layers = []
    for index, numbers in enumerate(record.layers):
        weights = [take(_weights_key(index, number)) for number in range(len(numbers.projections))]
        names = ("bias", "multipliers", *(["leak"] if numbers.leak else []))
        arrays: dict[str, Any] = {name: take(f"layer{index}.{name}") for name in names}
        try:
            projections = tuple(map(_projection, numbers.projections, weights))
            others = numbers.model_dump(exclude={"leak", "projections"})
            layers.append(IntegerLayer(projections=projections, **arrays, **others))
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


def _projection(record: _ProjectionRecord, weights: np.ndarray) -> IntegerProjection:
    pooling = None if record.pooling is None else Pooling(**record.pooling.model_dump())
    return IntegerProjection(weights=weights, pooling=pooling, **record.model_dump(exclude={"pooling"}))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise IntegerNetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise IntegerNetworkError(f"{path}: cannot be read ({error.strerror or error})") from None
