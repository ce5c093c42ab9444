# Everything one does with the project, from a machine that has just Python 3.11 to 3.13 and make.
# State lies in .bone-age/ (BONE_AGE_HOME), reports in results/.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
CONFIG  ?= configs/quickstart.yaml
PORT    ?= 5000
JOBS    ?= 2
TRIALS  ?= 10
IMAGES  ?= train serve tracking
SPACE   ?= build/space
STACK   ?= local
TO      ?= backups/$(shell date -u +%Y%m%d-%H%M%S)
SOURCES := bone_age steps pipelines benchmarks docker tests docs hatch_build.py

.DEFAULT_GOAL := help
.PHONY: help install run test coverage faults bench lint format docs mlflow lock images test-images stack test-stack test-services space backup restore clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv from the hashed lock (with uv where it is there, else with pip)

# The stamp is written last, so an interrupted installation starts again.
$(STAMP): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh ./install.sh
	@touch $@

run: install  ## Train on embedded synthetic hands, compare, register and promote (CONFIG=... for another experiment)
	@$(BIN)/bone-age train --config $(CONFIG)

test: install  ## Run all tests, JOBS=2 at a time (BONE_AGE_RSNA_DIR=DIR adds those on real radiographs)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

coverage: install  ## Run them with the lines and branches counted that they reach, which takes longer
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder \
	  --cov --cov-report=term:skip-covered --cov-report=xml

faults: install  ## Break everything on purpose: kills, full disks, lost databases, damaged files (TRIALS=10 kills at random)
	@BONE_AGE_FAULT_TRIALS=$(TRIALS) $(BIN)/python -m pytest -m fault --numprocesses $(JOBS) --dist loadfile \
	  --no-loadscope-reorder -rA --show-capture=stdout

bench: install  ## Measure what is claimed, against alternatives, into docs/benchmarks.md (BONE_AGE_RSNA_DIR=DIR; ONLY="growth batch")
	@$(BIN)/python -m benchmarks.all $(if $(ONLY),--only $(ONLY))

lint: install  ## Check style, types and the rules of the architecture
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

format: install  ## Put the code into its standard form
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: install  ## Write the command line's reference, and build the documentation into build/docs, links checked
	@$(BIN)/python -m typer bone_age.cli utils docs --name bone-age --title "Command line" --output docs/reference/command-line.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "build/docs/index.html"

mlflow: install  ## Open MLflow on this home (PORT=5000)
	@eval "$$($(BIN)/bone-age env)" && $(BIN)/mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" --port $(PORT)

LOCK := uv pip compile --python-version 3.11 --generate-hashes --quiet --no-header --no-emit-index-url
PART := $(LOCK) --python-platform x86_64-manylinux_2_28 --constraint requirements.lock

lock:  ## Resolve the dependencies anew into requirements*.lock (needs uv)
	$(LOCK) pyproject.toml --all-extras --universal --output-file requirements.lock
	$(PART) pyproject.toml --extra serve --output-file requirements-serve.lock
	$(PART) pyproject.toml --extra train --output-file requirements-train.lock
	echo 'mlflow[auth] psycopg[binary]' | tr ' ' '\n' | $(PART) - --output-file requirements-tracking.lock
	echo 'hatchling editables' | tr ' ' '\n' | $(PART) - --output-file requirements-build.lock

images:  ## Build the images bone-age-train, -serve and -tracking (IMAGES="serve"; BASE_IMAGE=... for another base)
	@BASE_IMAGE="$(BASE_IMAGE)" sh docker/images.sh $(IMAGES)

test-images: images  ## Build the images and run them: a small training, an answer over HTTP, a log-in
	@BASE_IMAGE="$(BASE_IMAGE)" sh docker/test_images.sh $(IMAGES)

stack: install  ## Register where steps run, and make it active (STACK=local, local_docker, kubernetes or kubeflow)
	@$(BIN)/python -m pipelines.stacks $(STACK)

test-stack: install  ## Build the image train, and run every step of a small training in a container of its own
	@BASE_IMAGE="$(BASE_IMAGE)" sh docker/images.sh train
	@sh docker/test_stack.sh

test-services: install  ## Run what docker/compose.yaml describes, without containers, and all that one does with it
	@sh docker/test_services.sh

space: install  ## Write the folder of a Hugging Face Docker Space (SPACE=build/space)
	@$(BIN)/python docker/space.py $(SPACE)

backup:  ## Copy what the services of docker/compose.yaml keep (TO=backups/TIME)
	@sh docker/backup.sh $(TO)

restore:  ## Put a backup back in place of what is there (FROM=backups/...)
	@sh docker/restore.sh $(FROM)

clean:  ## Remove the environment and caches; models and records in .bone-age/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage coverage.xml
