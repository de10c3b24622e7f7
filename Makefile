# Two commands matter: `make demo` and `make test`. Both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export MUJOCO_GL ?= egl

.PHONY: demo demo-seeds test lint types unit chaos bench protos system clean

demo: $(STAMP) system
	$(BIN)/offworld demo

demo-seeds: $(STAMP) system
	$(BIN)/offworld demo --seeds 0 1 2 3 4 --out runs/demo-seeds

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/basedpyright

unit: $(STAMP) system
	$(BIN)/python -m pytest -q

chaos: $(STAMP) system
	$(BIN)/python -m pytest -q -m slow

bench: $(STAMP) system
	$(BIN)/python -m tests.bench

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. protos/learner.proto

system:
	@sh deploy/system-packages.sh

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo-run runs build dist *.egg-info
