# Every target first creates the environment .venv; only Python 3.11 to 3.13 is required.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Target device of `make table4`, e.g. make table4 TARGET="--target=adb --fetch_binary"
TARGET ?= --target=host --op_profile --memory

.PHONY: help demo docs table4 table4-arm device emulator test test-arm check package release clean

help:
	@echo "make demo     run the pipeline from a folder of images to int8 files and a report (about 5 minutes)"
	@echo "make table4   time the paper's networks on this machine, and compare with the paper (about 15 minutes)"
	@echo "               on a phone: make table4 TARGET='--target=adb --fetch_binary' (docs/phones.md)"
	@echo "make emulator build an emulated ARM processor that counts instructions (as root, on Debian; docs/emulator.md)"
	@echo "make table4-arm count the instructions of the paper's networks on it"
	@echo "make test     run the tests"
	@echo "make test-arm compare LiteRT's outputs on an emulated ARM processor with this machine's (needs FD_KERAS_DATA)"
	@echo "make device   install a test phone and browsers for the tests (as root, on Debian)"
	@echo "make check    check lint, formatting and types"
	@echo "make package  build the wheel and the sdist into dist/"
	@echo "make release  check, test, build, and tag the version in fd_keras/version.py (CONTRIBUTING.md)"
	@echo "make docs     build the documentation site into site/"
	@echo "make clean    remove the output of the other targets"

$(VENV)/installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and \
	  f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python demo.py

table4: $(VENV)/installed
	$(BIN)/python -m benchmarks.table4 --output_dir=table4_output/models
	$(BIN)/python -m android_bench.run --models=table4_output/models --output_dir=table4_output/results $(TARGET)

# A Debian with a real adbd and sshd in .device, two browsers, and the clients.
device:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	  adb chromium debootstrap firefox-esr openssh-client util-linux
	tests/android_bench/make_device.sh

# One process per core, but at most four, since each imports TensorFlow. The tests of a file share fixtures, so a file stays
# in one process. Files keep their order: sorted by their number of tests, the slowest would run last.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Tests that depend on Keras's backend also run on JAX.
ON_JAX := applications builder classify layers references saved

test: $(VENV)/installed
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) $(ON_JAX:%=tests/fd_keras/test_%.py) tests/benchmarks/test_device_loop.py

# Debian's emulator, and a Python with LiteRT for it, in .arm.
test-arm: $(VENV)/installed
	tests/arm/make.sh $(BIN)/python
	$(BIN)/python -m tests.arm.check

# qemu with the counting plugin, in .emulator; it runs the ARM Python of test-arm.
emulator: $(VENV)/installed
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends debian-archive-keyring \
	  gcc libc6-dev libglib2.0-dev ninja-build pkg-config
	tests/arm/make.sh $(BIN)/python
	tests/arm/make_emulator.sh $(BIN)/python

table4-arm:
	$(MAKE) table4 TARGET="--target=emulator --serial=cortex-a53,cortex-a76,cortex-a9 --op_profile"

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

package: $(VENV)/installed
	rm -rf build dist
	$(BIN)/python -m build

# A release consists of the tag and dist/; nothing is published.
VERSION = $(shell sed -n 's/__version__ = "\(.*\)"/\1/p' fd_keras/version.py)
release: $(VENV)/installed
	@git diff --quiet HEAD || { echo "commit first: the tree has changes"; exit 1; }
	@grep -q '^## $(VERSION)$$' CHANGELOG.md || { echo "CHANGELOG.md has no section '## $(VERSION)'"; exit 1; }
	@! git rev-parse -q --verify v$(VERSION) >/dev/null || { echo "v$(VERSION) already exists: increase the version in fd_keras/version.py"; exit 1; }
	$(MAKE) check test package
	git tag -a v$(VERSION) -m "fd_keras $(VERSION)"
	@echo "tagged v$(VERSION); dist/ contains the files to upload"

clean:
	rm -rf $(VENV) build dist site demo_output table4_output results .arm .emulator .device .device.part *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
