import json
import shutil

import pytest

from lmht.gen.build import Build, BuildError
from lmht.gen.images import encode_image
from lmht.gen.memory_contents import pack_memories


@pytest.fixture
def copy(small_build, tmp_path):
    return shutil.copytree(small_build, tmp_path / "copy")


def refuse(folder):
    with pytest.raises(BuildError) as error:
        Build.open(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_open(small_build, small_network):
    build = Build.open(small_build)
    assert build.parameters.name == "compact"
    primitives = ["lmht_multiplier.v", "lmht_ram.v", "lmht_rows.v"]
    assert [path.name for path in build.verilog_files] == ["compact.v", *primitives]
    assert build.image_file == small_build / "image.bin"
    assert build.network.architecture == build.source.architecture == small_network.architecture
    assert build.manifest.registers[0].name == "ID"
    assert len(build.parameters.layers[0]) == 2


@pytest.mark.parametrize(
    "name", ["compact.v", "lmht_ram.v", "image.bin", "lmht_design.h", "images/layer0_tile0_weights.hex"]
)
def test_missing_file(copy, name):
    (copy / name).unlink()
    assert refuse(copy) == f"{copy / name}: no such file"


@pytest.mark.parametrize("name", ["compact.v", "lmht_ram.v", "integer_network.json", "compact.core"])
def test_edited_file(copy, name):
    (copy / name).write_text((copy / name).read_text() + "\n")
    assert refuse(copy).startswith(f"{copy / name}: changed since the build: SHA-256 is ")
    Build.open(copy, check_files=False)


def test_truncated_image(copy):
    content = (copy / "image.bin").read_bytes()
    (copy / "image.bin").write_bytes(content[:-8])
    assert refuse(copy) == f"{copy}/image.bin: truncated: {len(content) - 8} bytes, {len(content)} expected"


def test_image_of_another_design(copy, small_network):
    build = Build.open(copy)
    contents = pack_memories(build.parameters, small_network)
    image = bytearray(encode_image(build.parameters, contents))
    object.__setattr__(build.parameters, "design_hash", "0" * 16)
    image = encode_image(build.parameters, contents)
    (copy / "image.bin").write_bytes(image)
    assert "image.bin: belongs to design 0000000000000000, not " in refuse(copy)


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(design_hash="0" * 16), "design_hash must be "),
        (lambda m: m["parameters"]["layers"][0][0].update(lanes=0), "lanes must be between 1 and 128, not 0"),
        (lambda m: m.pop("name"), "name: Field required"),
        (lambda m: m.update(version=7), "version: Input should be 1, not 7"),
        (
            lambda m: m["files"].update({"../other": "0" * 64}),
            "files must lie inside the build, not ../other",
        ),
    ],
)
def test_edited_manifest(copy, change, message):
    edit(copy, change)
    assert message in refuse(copy)


def test_not_a_build(tmp_path, copy):
    assert refuse(tmp_path) == f"{tmp_path}/manifest.json: no such file: not a build of lmht"
    (copy / "manifest.json").write_text("{")
    assert "Invalid JSON" in refuse(copy)
