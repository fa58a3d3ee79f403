# make run     install what is pinned and open the app on http://127.0.0.1:7860
#              (PyTorch's CPU build on Linux without an NVIDIA card; make run TORCH=default takes the usual one)
# make test    install what the tests need and run the whole suite, whose few hundred processes share compiled modules
# make bench   measure; make lint, make format: ruff, and eslint and tsc where Node is present

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# quiet about which index each file came from; loud about everything else
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

export GRADIO_ANALYTICS_ENABLED = False
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: run test bench lint format clean

run: .venv/app
	$(BIN)/python app.py

test: .venv/dev
	@scripts/find_chromium.sh
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: .venv/app
	$(BIN)/python -m benchmarks.trace
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.finetuning

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(call scripts,lint)

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(call scripts,format)

# the browser's scripts, where Node is present; the app and the tests need none
scripts = if command -v npm > /dev/null; then npm ci --silent --no-audit --no-fund && npm run --silent $(1); \
	else echo "Node is not installed: the browser's scripts are left out."; fi

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed; found $$($(PYTHON) --version 2>&1). Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/app: requirements.txt | .venv/bin/python
	@echo "Installing what requirements.txt pins (a few minutes, once) ..."
	@scripts/install_torch.sh $(BIN)/python $(TORCH)
	$(PIP) -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/app
	$(PIP) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv build node_modules .pytest_cache .ruff_cache
