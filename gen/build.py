"""A finished build, opened and checked: what verification and benchmarks start from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lmht.gen.files import wrapper_name
from lmht.gen.images import IMAGE_FILE, ImageError, read_image
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_files import IntegerNetworkError, load_integer_network
from lmht.gen.manifest import MANIFEST_FILE, Manifest, SourceRecord
from lmht.model.config import explain_validation_error
from lmht.rtl.bus_accelerator import BUSES
from lmht.rtl.parameters import DesignParameters

__all__ = ["Build", "BuildError"]


class BuildError(ValueError):
    """A build is missing, damaged, or was changed after it was written; one line that names the file."""


@dataclass(frozen=True, eq=False)
class Build:
    """A build folder with its manifest and the integer network it was made from.

    Attributes
    ----------
    folder : pathlib.Path
    manifest : Manifest
    network : IntegerNetwork
    """

    folder: Path
    manifest: Manifest
    network: IntegerNetwork

    @classmethod
    def open(cls, folder: str | Path, *, check_files: bool = True) -> Build:
        """Open a build.

        Parameters
        ----------
        folder : path
            What :func:`~lmht.gen.compile.compile_network` wrote.
        check_files : bool
            Compare every file with the manifest. Without it a changed file is taken as it is, as in tests
            that plant faults.

        Raises
        ------
        BuildError
            If a file is missing, truncated, changed, or belongs to another design.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder / MANIFEST_FILE)
        if manifest.parameters.design_hash != manifest.design_hash:
            raise BuildError(
                f"{folder / MANIFEST_FILE}: design_hash must be {manifest.parameters.design_hash}, "
                f"as the parameters say, not {manifest.design_hash}"
            )
        if check_files:
            try:
                read_image(folder / IMAGE_FILE, manifest.design_hash)
            except ImageError as error:
                raise BuildError(str(error)) from None
            for name, digest in manifest.files.items():
                _check_file(folder / name, digest)
        try:
            network = load_integer_network(folder)
        except IntegerNetworkError as error:
            raise BuildError(str(error)) from None
        return cls(folder, manifest, network)

    @property
    def parameters(self) -> DesignParameters:
        return self.manifest.parameters

    @property
    def verilog_files(self) -> list[Path]:
        """The design's own file, then those it instantiates modules from; not the design behind a bus."""
        own = f"{self.manifest.name}.v"
        left_out = {own, *(f"{wrapper_name(self.manifest.name, bus)}.v" for bus in BUSES)}
        others = sorted(name for name in self.manifest.files if name.endswith(".v") and name not in left_out)
        return [self.folder / name for name in (own, *others)]

    @property
    def image_file(self) -> Path:
        return self.folder / IMAGE_FILE

    @property
    def source(self) -> SourceRecord:
        """The network that was compiled: data set, configuration, accuracies."""
        return self.manifest.source


def _read_manifest(path: Path) -> Manifest:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BuildError(f"{path}: no such file: not a build of lmht") from None
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BuildError(f"{path}: {explain_validation_error(error)}") from None


def _check_file(path: Path, digest: str) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BuildError(f"{path}: no such file") from None
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror or error})") from None
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise BuildError(f"{path}: changed since the build: SHA-256 is {found}, {digest} expected")
