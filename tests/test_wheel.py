"""The wheel holds everything: an installed copy alone is imported, emits a design and runs it through its driver."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

EMIT = """
import sys
from pathlib import Path
import numpy as np
import lmht.gen.cli, lmht.model.native, lmht.rtl.accelerator, lmht.sim.benches.accelerator, lmht.sim.harness
from lmht.gen.build import Build
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.harness_source import harness_sources
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.verify import verify
assert all(lmht.__path__) and {site!r} in lmht.gen.cli.__file__, lmht.gen.cli.__file__
rng = np.random.default_rng(0)
network = random_network(rng, input_shape=(1, 4, 4), widths=(6, 3))
compile_network(network, "build", CompileOptions(bus="axi"))
build = Build.open("build")
assert {"lmht_multiplier.v", "lmht_ram.v", "lmht_rows.v"} <= set(build.manifest.files)
assert harness_sources(build.parameters, ())
assert lmht.model.native._SOURCE.is_file()
report = verify(build, random_images(rng, 10, (1, 4, 4)), engine="driver", optimize=False)
assert report.ok, report.message
sys.exit(main(["--version"]))
"""


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return load_script("install_copy").build_wheel(tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_every_file(wheel):
    """Every source file is there, and nothing else but the metadata."""
    expected = set()
    for folder in ("firmware", "model", "gen", "rtl", "sim"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not {"__pycache__", "fuzz"} & set(path.parts):
                expected.add(f"lmht/{path.relative_to(ROOT).as_posix()}")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


@pytest.mark.slow
def test_installed_wheel_works(wheel, tmp_path):
    site = tmp_path / "site"
    load_script("install_copy").install_wheel(wheel, site)
    assert (site / "bin/lmht").exists()
    # -P keeps the working folder out; PYTHONPATH comes before the editable install's finder.
    process = subprocess.run(
        [sys.executable, "-P", "-c", EMIT.replace("{site!r}", repr(str(site)))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("lmht ")
