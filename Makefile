# Everything here does its own set-up: all it needs is make and Python >= 3.11.
#   make demo     a maths question, answered by two real models
#   make test     lint, unit and integration tests

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# vLLM for the GPU where there is one, else its CPU build
ENGINE ?= $(if $(shell nvidia-smi -L 2>/dev/null),vllm,cpu)
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SMALL := Qwen2.5-Coder-0.5B-Instruct
LARGE := Qwen2.5-Coder-1.5B-Instruct

QUESTION ?= Anna has 24 apples. She gives a third of them to Ben and eats 2. Then she buys twice as many as she has left. How many apples does she have now?
THRESHOLD ?= 1.0
PYTEST_ARGS ?=
export QUESTION

# Of all these packages' modules a tenth are ever imported. Compiling the others takes two minutes.
unexport PYTHONDONTWRITEBYTECODE
IMPORTED := import vllm.entrypoints.openai.api_server, vllm.v1.engine.core, accelerate, \
	langgraph.graph, math_verify, matplotlib.pyplot, plotly.graph_objects, reasoning_gym

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: env
env: $(STAMP) ## make .venv with everything in it (again when pyproject.toml changes)

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python >= 3.11 found. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }

$(STAMP): pyproject.toml .ci/install | $(BIN)/python
	@echo "Installing with vLLM for: $(ENGINE)"
	@TORCH_CPU_INDEX="$(TORCH_CPU_INDEX)" .ci/install $(BIN)/python $(ENGINE)
# As it is compiled, so it stays; nobody needs to wait for it.
	@nohup $(BIN)/python -c '$(IMPORTED)' >/dev/null 2>&1 </dev/null &
	@touch $@

.PHONY: models
models: env ## get the demo models (about 1.7 GB to download, 4.5 GB kept)
	@$(BIN)/python examples/demo_models.py >/dev/null

.PHONY: demo
demo: env ## answer QUESTION with two real models, steps coloured by writer
	@small=$$($(BIN)/python examples/demo_models.py $(SMALL)) \
	&& large=$$($(BIN)/python examples/demo_models.py $(LARGE)) \
	&& exec $(BIN)/glimprouter ask "$$QUESTION" --small "$$small" --large "$$large" \
		--threshold $(THRESHOLD) --chat-template examples/thinking_chat_template.jinja

.PHONY: test
test: env ## all of: set-up, lint, unit tests, integration tests
	@$(MAKE) -j3 models browser lint # none of them needs both cores
	@$(MAKE) unit
	@$(MAKE) integration

# For the tests of pages. A machine without a browser, or without the means to get one, skips them.
.PHONY: browser
browser: ## get Chromium for the tests of pages, where that is possible (root, apt)
	@for name in "$$CHROME" chromium chromium-browser google-chrome google-chrome-stable chrome; do \
		if [ -n "$$name" ] && command -v "$$name" >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the tests of pages."; \
		{ timeout 120 apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			timeout 420 apt-get -qq -y --no-install-recommends install chromium; } >/dev/null 2>&1 \
		&& exit 0; \
	fi; \
	echo "There is no browser (chromium, google-chrome, or \$$CHROME): its tests will be skipped."

.PHONY: unit
unit: env ## unit tests: no network, no model, on every core
	$(BIN)/python -m pytest unit_tests -n auto --dist worksteal $(PYTEST_ARGS)

.PHONY: integration
integration: env browser ## real vLLM engines with the demo models, real processes, a real browser
	$(BIN)/python -m pytest integration_tests/system -n auto $(PYTEST_ARGS) || [ $$? = 5 ] # none chosen
	$(BIN)/python -m pytest integration_tests --ignore integration_tests/system $(PYTEST_ARGS)

.PHONY: lint
lint: env ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: env ## let ruff format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## delete .venv and caches in this folder; the models stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
