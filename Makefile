# Everything one does with the project, from a machine that has just Python 3.11 to 3.13 and make.
# State lies in .bone-age/ (BONE_AGE_HOME), reports in results/.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
CONFIG  ?= configs/quickstart.yaml
PORT    ?= 5000
JOBS    ?= 2
SOURCES := bone_age steps pipelines benchmarks tests docs

.DEFAULT_GOAL := help
.PHONY: help install run test lint format mlflow lock clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv from the hashed lock (with uv where it is there, else with pip)

# The stamp is written last, so an interrupted installation starts again.
$(STAMP): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh ./install.sh
	@touch $@

run: install  ## Train on embedded synthetic hands, compare, register and promote (CONFIG=... for another experiment)
	@$(BIN)/bone-age train --config $(CONFIG)

test: install  ## Run all tests, JOBS=2 at a time (BONE_AGE_RSNA_DIR=DIR adds those on real radiographs)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-report=xml

lint: install  ## Check style, types and the rules of the architecture
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Put the code into its standard form
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

mlflow: install  ## Open MLflow on this home (PORT=5000)
	@eval "$$($(BIN)/bone-age env)" && $(BIN)/mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" --port $(PORT)

lock:  ## Resolve the dependencies anew into requirements.lock (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --quiet \
	  --no-header --no-emit-index-url --output-file requirements.lock

clean:  ## Remove the environment and caches; models and records in .bone-age/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage coverage.xml
