# Every target makes its own environment in .venv first; all it needs is Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where `make table4` times, e.g. make table4 TARGET="--target=adb --fetch_binary"
TARGET ?= --target=host --op_profile --memory

.PHONY: help demo table4 device test test-arm check clean

help:
	@echo "make demo     train a small FD-MobileNet, convert it to int8, verify and time it (about 5 minutes)"
	@echo "make table4   time the paper's networks on this machine, beside the paper's figures (about 15 minutes)"
	@echo "               on a phone: make table4 TARGET='--target=adb --fetch_binary' (docs/phones.md)"
	@echo "make test     run the tests"
	@echo "make test-arm compare LiteRT's answers on an emulated ARM processor with this one's (needs FD_KERAS_DATA)"
	@echo "make device   install what the tests of phones and of the report's page need (as root, on Debian)"
	@echo "make check    lint and formatting"
	@echo "make clean    remove what the other targets made"

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

# A Debian with a real adbd and sshd in .device, a browser, and the clients.
device:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends adb chromium debootstrap openssh-client util-linux
	tests/android_bench/make_device.sh

test: $(VENV)/installed
	$(BIN)/python -m pytest
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests/fd_keras

# Debian's emulator, and a Python with LiteRT for it, in .arm.
test-arm: $(VENV)/installed
	tests/arm/make.sh $(BIN)/python
	$(BIN)/python -m tests.arm.check

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist demo_output table4_output results .arm .device .device.part *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
