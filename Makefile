# visavis: `make serve` is all a user needs; `make test` is all a contributor needs; `make help` lists the rest.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
ARGS ?=
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PACKAGES := bot dialogue models
NPM_PACKAGES := typescript@7 deep-chat@2.4 @slack/bolt@5
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)

.PHONY: help serve test test-all gpu-check check format types lines clean system-packages

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo "make serve ARGS='--port 9000'       flags of visavis serve"
	@echo "make serve TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@echo "                                    another index for torch: this one has small CPU-only wheels for Linux"

serve: $(VENV)/.core ## install what is needed and serve the page at http://127.0.0.1:8080
	@exec $(BIN)/visavis serve $(ARGS)

test: check system-packages node_modules ## check, then the tests that CI runs
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: check system-packages node_modules $(VENV)/hikari ## check, then every test, slow ones too
	@$(BIN)/python -m pytest $(ARGS)

gpu-check: $(VENV)/.core ## on a machine with a CUDA device (and TORCH_INDEX): equal answers, memory, then the benchmark
	@$(BIN)/python -m visavis.models.gpu_check $(ARGS)
	@$(BIN)/visavis bench --device cuda --out gpu-check

check: $(VENV)/.dev ## format, lint, types; prints the size of the product
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(MAKE) --no-print-directory types lines

format: $(VENV)/.dev ## format the code and fix what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(VENV)/.dev
	@MYPYPATH=$(VENV)/src $(BIN)/mypy $(PACKAGES:%=-p visavis.%)

lines: $(VENV)/.dev
	@count() { find "$${@:2}" -name "$$1" -not -path '*/.*' -print0 | xargs -0 cat | wc -l; }; \
	echo "Python: $$(count '*.py' $(PACKAGES) deploy) lines (tests: $$(count '*.py' tests))"; \
	echo "JavaScript: $$(count '*.js' bot) lines"
	@$(BIN)/python -c 'import tomllib; print("core dependencies:", \
	len(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))'

clean: ## remove the virtual environment, caches and builds (never your data)
	rm -rf $(VENV) build dist .build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Type checkers do not follow an editable install of mapped folders: they get links instead (see MYPYPATH above).
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "visavis needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make $(VENV); on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@mkdir -p $(VENV)/src/visavis
	@for folder in $(PACKAGES); do ln -sfn "../../../$$folder" "$(VENV)/src/visavis/$$folder"; done

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing visavis into $(VENV) (mostly torch; once) ..."
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --index-url "$(TORCH_INDEX)" torch; fi
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing the tools of a contributor ..."
	@$(PIP) setuptools wheel
	@$(PIP) --editable ".[dev,train,slack,discord,anthropic,google,ollama]"
	@touch $@

# For the types of the page's scripts, Deep Chat and Slack's other client; where there is no npm or no registry, their tests say that they were skipped.
node_modules:
	@if command -v npm >/dev/null; then \
	npm install --no-save --silent --no-audit --no-fund --fetch-retries=0 $(NPM_PACKAGES) >/dev/null 2>&1 || echo "npm found no registry."; fi

# A second client for the stand-in of Discord. It wants other versions of what we use, so it has a place of its own.
$(VENV)/hikari: $(BIN)/python
	@{ $(BIN)/python -m venv $@ && $@/bin/python -m pip install -qq --disable-pip-version-check "hikari>=2.7,<3"; } \
	|| { rm -rf $@; echo "No hikari was found; its test is skipped."; }

system-packages:
	@missing=""; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| missing="$$missing chromium"; \
	if [ -n "$$missing" ]; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing$$missing ..."; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	else echo "The tests need$$missing; install with: sudo apt install$$missing"; exit 1; fi; fi
	@wanted=""; \
	command -v promtool >/dev/null || wanted="$$wanted prometheus"; \
	command -v nginx >/dev/null || wanted="$$wanted nginx-light"; \
	if [ -n "$$wanted" ]; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$wanted >/dev/null; then :; \
	else echo "Not found:$$wanted; their checks of files under deploy/ are skipped."; fi; fi
