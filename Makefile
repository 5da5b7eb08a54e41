# The commands of this project; CI calls the same names.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo test check bench faults kill-points stop lock

$(VENV)/bin/uv:
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv

$(STAMP): $(VENV)/bin/uv requirements.lock pyproject.toml server/pyproject.toml
	@date +%s.%N > $(VENV)/.started
	$(VENV)/bin/uv pip install --quiet --python $(PY) --compile-bytecode --require-hashes -r requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e . -e server
	@echo "$$(date +%s.%N) - $$(cat $(VENV)/.started)" | $(PY) -c "a, _, b = input().split(); print(round(float(a) - float(b), 1))" > $(STAMP)

install: $(STAMP) ## create .venv and install the project

demo: $(STAMP) ## train, deploy and call examples/01-diabetes
	@MOORINGS_INSTALL_SECONDS=$$(cat $(STAMP)) $(PY) examples/01-diabetes/demo.py

check: $(STAMP) ## lint, types, layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(STAMP) check ## everything CI proves
	$(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(PY) -m pytest -q -m alone

bench: $(STAMP) ## Moorings beside its peers, each in a venv of its own (an hour): docs/performance.md
	$(PY) -m bench

faults: $(STAMP) ## break things under load (minutes; `python tests/faults/run.py --long`: some hours): docs/reliability.md
	$(PY) tests/faults/run.py --write

kill-points: $(STAMP) ## kill the control process at every step of every operation (half an hour): docs/kill-points.md
	$(PY) tests/faults/kill_points.py

stop: ## stop the local workspace
	-$(VENV)/bin/moor workspace stop

lock: $(VENV)/bin/uv ## refresh requirements.lock from pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --python $(PY) pyproject.toml server/pyproject.toml --extra dev \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --no-emit-package moorings-server -o requirements.lock
