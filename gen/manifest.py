"""``manifest.json`` of a build: what it is, what it is made of, and the hash of every file."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lmht.gen.choose_precision import PrecisionTrial
from lmht.gen.fidelity import FidelityRecord
from lmht.gen.folded import ChannelChange
from lmht.gen.layer_record import LayerRecord
from lmht.rtl.parameters import DesignParameters

__all__ = [
    "MANIFEST_FILE",
    "MANIFEST_FORMAT",
    "ExpansionRecord",
    "Manifest",
    "MemoryRecord",
    "PortRecord",
    "RegisterRecord",
    "SourceRecord",
]

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT: Final = "lmht-build"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MemoryRecord(_Record):
    """A loadable memory: number on the configuration bus, bits of a row, rows, ``$readmemh`` file.

    `file` is None for what is no part of the memory image (routing tables, which have a reset value).
    """

    index: int
    name: str
    width: int
    depth: int
    file: str | None


class FieldRecord(_Record):
    """Bits ``offset … offset + width - 1`` of a register."""

    offset: int
    width: int
    description: str


class RegisterRecord(_Record):
    """A register: `address` in words of 32 bits; `fields` where it is not one number."""

    name: str
    address: int
    access: str = Field(pattern="^(ro|rw|wo|w1c)$")
    description: str
    fields: dict[str, FieldRecord]


class PortRecord(_Record):
    """A port of the module that a system instantiates; `direction` as seen from it."""

    name: str
    direction: str = Field(pattern="^(input|output)$")
    width: int = Field(ge=1)


class ExpansionRecord(_Record):
    """Levels L and steps T that the network was trained with, where the hardware has L T binary steps."""

    levels: int = Field(ge=1)
    steps: int = Field(ge=1)

    def __str__(self) -> str:
        return (
            f"binary steps: L = {self.levels}, T = {self.steps} became L = 1, T = {self.levels * self.steps}"
        )


class SourceRecord(_Record):
    """The network that was compiled.

    `network` and `training` are the run's configurations, None where the network came without a run.
    Accuracies are from 0 to 1, those of the network as it was trained. `binary_expansion` is None without one.
    """

    dataset: str | None = None
    architecture: str
    network: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    weights_sha256: str | None = None
    binary_expansion: ExpansionRecord | None = None


class Manifest(_Record):
    """All of ``manifest.json``.

    Attributes
    ----------
    top : str
        Module that a system instantiates: the design behind its bus, or the design itself.
    ports : tuple of PortRecord
        Its ports.
    channel_changes : tuple of ChannelChange
        Channels that were clamped.
    precision_trials : tuple of PrecisionTrial
        Bits that were tried; empty without a fidelity to reach.
    fidelity : FidelityRecord or None
        Accuracy of the integers beside that of the network in PyTorch; None where there were no images.
    files : dict of str to str
        SHA-256 of every other file, by path relative to the build.
    """

    format: Literal["lmht-build"] = MANIFEST_FORMAT
    version: Literal[1] = 1
    lmht_version: str
    name: str
    design_hash: str = Field(pattern="^[0-9a-f]{16}$")
    parameters: DesignParameters
    layers: tuple[LayerRecord, ...]
    expected_cycles_per_image: float
    memories: tuple[MemoryRecord, ...]
    registers: tuple[RegisterRecord, ...]
    source: SourceRecord
    top: str
    ports: tuple[PortRecord, ...]
    channel_changes: tuple[ChannelChange, ...] = ()
    precision_trials: tuple[PrecisionTrial, ...] = ()
    fidelity: FidelityRecord | None = None
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _files_lie_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"files must lie inside the build, not {name}")
        return files

    def to_json(self) -> bytes:
        """The file's content: equal manifests give equal bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()
