# Two commands matter: `make demo` and `make test`. Both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export MUJOCO_GL ?= egl

.PHONY: demo demo-seeds test lint types unit chaos faults bench detectors protos system clean

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

# Half of the tests wait for processes most of the time: two workers, a file to each. Then those
# that bear no company.
USUAL := not gpu and not hardware and not slow
unit: $(STAMP) system
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "$(USUAL) and not alone"
	$(BIN)/python -m pytest -q -m "$(USUAL) and alone"

chaos: $(STAMP) system
	$(BIN)/python -m pytest -q -m slow

faults: $(STAMP) system
	$(BIN)/python -m tests.faults

bench: $(STAMP) system
	$(BIN)/python -m tests.bench

detectors: $(STAMP) system
	$(BIN)/offworld calibrate --out runs/calibration/reach
	$(BIN)/offworld calibrate --sim.task pick --out runs/calibration/pick
	$(BIN)/offworld data score --calibration runs/calibration/reach/calibration.toml --trials 60 \
	  --seed 11 --variations none distractor --picture runs/calibration/reach/wrong.png
	$(BIN)/offworld data score --calibration runs/calibration/pick/calibration.toml --trials 60 \
	  --seed 11 --sim.task pick --sim.max-steps 40 --variations none distractors \
	  --picture runs/calibration/pick/wrong.png

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
