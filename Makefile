# install demo test coverage lab up down status doctor check clean; each installs what it needs into .venv first.
# SIZE=smoke|workshop|full is the one dial. PIP_ARGS goes to pip: on Linux without a GPU, name an
# index of CPU builds there (--extra-index-url), or pip takes the large CUDA build of torch.

ifneq ($(realpath $(dir $(lastword $(MAKEFILE_LIST)))),$(realpath .))
$(error run make in the folder of its Makefile (make -C FOLDER): `clean` would remove from this one)
endif

PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Four tests at a time, on two cores: many of them mostly wait. nbval takes each worker two seconds
# to import; the notebooks' tests start it alone.
WORKERS := -n 4 --dist worksteal -p no:nbval

# The local profile: no telemetry, no Xet (a self-hosted Hub has none), idle threads that yield.
export HF_HUB_DISABLE_XET := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_UPDATE_DOWNLOAD_COUNTS := 0
export DO_NOT_TRACK := 1
export DISABLE_TELEMETRY := 1
export NEMO_GUARDRAILS_NO_USAGE_STATS := 1
export WANDB_MODE := offline
export WANDB_ERROR_REPORTING := false
export TOKENIZERS_PARALLELISM := false
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: install demo test coverage lab up down status doctor check clean

install: $(STAMP)

demo: $(STAMP)
	$(PY) scripts/demo.py

test: $(STAMP)
	$(PY) -m pytest tests $(WORKERS) --durations=10

coverage: $(STAMP)  # the tests again, slower, as each line is counted
	$(PY) -m pytest tests $(WORKERS) --cov --cov-report=term

lab: $(STAMP)
	$(PY) -m nemo_local up --detach
	$(PY) -m jupyter lab

up: $(STAMP)
	$(PY) -m nemo_local up

down: $(STAMP)
	$(PY) -m nemo_local down

status: $(STAMP)
	$(PY) -m nemo_local status

doctor: $(STAMP)
	$(PY) -m nemo_local doctor

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	if [ -x $(PY) ]; then $(PY) -m nemo_local down --home .nemo_local || true; fi
	rm -rf .nemo_local data results wandb build *.egg-info .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.txt constraints.txt
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f'Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11')"
	[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[local,dev]"
	touch $@
