# make help    what there is
# PYTHON, BUILD and DATA may be given: make bench BUILD=build/mnist DATA=path/to/data

PYTHON ?= python3
BUILD ?= build/demo/design
DATA ?=
VENV := .venv
# Not the commands beside it: the line that names their Python breaks at some folders' names.
RUN := $(VENV)/bin/python
LMHT := $(RUN) -P -m lmht.gen.cli
READY := $(VENV)/.ready

# As they were given, and through the environment: neither make nor the shell then splits or expands a path.
ifneq ($(value DATA),)
export LMHT_DATA := $(value DATA)
endif
export BUILD_FOLDER := $(value BUILD)

.NOTPARALLEL:
.PHONY: help .venv demo test nightly lint bench soc clean

help:
	@echo "make .venv   environment with exactly the versions of requirements.lock"
	@echo "make demo    train, compile, verify and picture the bundled handwritten digits (about a minute)"
	@echo "make test    tests, with one simulation of each file and nearly all planted faults; DATA=DIR adds those on MNIST"
	@echo "make nightly all tests with every case, and 200 random networks (an hour or two)"
	@echo "make lint    format, lint, and types of a regular install"
	@echo "make bench   figures of a build: BUILD=build/mnist, DATA=DIR; the demo's by default"
	@echo "make soc     20 images on a RISC-V system around a build: BUILD, DATA as above; installs requirements-soc.lock"
	@echo "make clean   remove builds and caches, not runs and not .venv"

.venv: $(READY)

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	@for tool in g++ make; do command -v $$tool >/dev/null || \
	  { echo "error: $$tool is not on PATH; Verilator needs g++ and make" >&2; exit 1; }; done
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module (Debian package: python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(RUN) -m pip install -qq --requirement requirements.lock
	$(RUN) -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	$(LMHT) demo

test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist worksteal

nightly: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist worksteal -m "nightly or not nightly"
	$(RUN) scripts/random_networks_nightly.py --networks 200
	$(RUN) scripts/fidelity_nightly.py --networks 2000

lint: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) scripts/install_copy.py build/lint
	MYPYPATH=build/lint $(RUN) -m mypy

bench: $(READY)
	@test "$$BUILD_FOLDER" != build/demo/design -o -e "$$BUILD_FOLDER/manifest.json" || $(LMHT) demo
	$(LMHT) bench "$$BUILD_FOLDER"

soc: $(READY)
	$(RUN) -m pip install -qq --requirement requirements-soc.lock
	@test "$$BUILD_FOLDER" != build/demo/design -o -e "$$BUILD_FOLDER/manifest.json" || $(LMHT) demo
	$(LMHT) soc "$$BUILD_FOLDER"

clean:
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
