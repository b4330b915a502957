# wanserve. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PROMPT ?= a red ball bouncing on a blue background
# Of pytest. Each starts servers of its own and computes on one thread.
PROCESSES ?= 2
# PyTorch from another index, e.g. make demo TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH_INDEX_URL ?=
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
READY = $(VENV)/.ready
# The openai SDK before the newest, for tests/clients.
OLD_SDK = $(VENV)/openai-2
# What looks at the environment from outside.
TOOLS = $(VENV)-tools
# Validators of custom resources.
MODELS = @kubernetes-models/keda@0.4.2 @kubernetes-models/prometheus-operator@6.0.0
.DEFAULT_GOAL := help
.PHONY: help demo up test test-gpu check lint types imports format chaos bench sbom audit validate-kubernetes secrets train-embedded evaluate-embedded clean
export HF_HUB_OFFLINE = 1

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## environment, servers, one video of PROMPT, and everything stays up (DEMO_EXIT=1: stops)
	$(VENV)/bin/python -m service.demo --prompt "$(PROMPT)" --port $(PORT) $(if $(DEMO_EXIT),--exit)

up: $(READY) ## start everything that is not configured: Redis, S3, gateway, worker
	$(VENV)/bin/wanserve up --port $(PORT)

test: export OMP_NUM_THREADS = 1
test: $(READY) $(OLD_SDK)/.ready ## every test that needs no GPU, in PROCESSES (2) side by side; ARGS="-k queue"
	$(VENV)/bin/python -m pytest -m "not gpu" -n $(PROCESSES) --dist loadfile $(ARGS)

test-gpu: $(READY) ## the tests that need a CUDA device
	$(VENV)/bin/python -m pytest -m gpu $(ARGS)

check: lint types imports ## lint, types, imports

lint: $(READY) ## ruff, rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY) ## mypy, strict
	$(VENV)/bin/mypy

imports: $(READY) ## the arrows between the packages
	$(VENV)/bin/lint-imports

format: $(READY) ## rewrite the sources in ruff's format
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

chaos: $(READY) ## kills over gateway, workers, Redis and S3 while 200 jobs run (about 5 minutes); SEED=…, CHECK=1
	CHECK=$(CHECK) $(VENV)/bin/python -m tests.chaos

bench: $(READY) ## one line a figure; NAME=path, CHECK=1 fails on a short one
	CHECK=$(CHECK) $(VENV)/bin/python -m bench.$(if $(NAME),$(NAME),path)

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit
	touch $@

sbom: $(READY) $(TOOLS)/.ready ## a bill of materials of the environment, CycloneDX, in build/sbom.json
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment $(VENV)/bin/python --output-file build/sbom.json

audit: $(READY) $(TOOLS)/.ready ## known holes in the environment's packages; asks PyPI's advisory database
	$(TOOLS)/bin/pip-audit --path $$($(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

validate-kubernetes: $(READY) ## KEDA's and the Prometheus operator's objects against their schemas; needs npm
	npm install --prefix build/kubernetes-models --no-save --silent $(MODELS)
	$(VENV)/bin/python -m deploy.k8s.validate

secrets: ## the secrets that docker-compose.yml and deploy/k8s want, in ./secrets; what is there stays
	$(PYTHON) deploy/secrets.py secrets

train-embedded: $(READY) ## make the embedded checkpoint from nothing (takes hours; resumable)
	$(VENV)/bin/python -m model.tiny.train

evaluate-embedded: $(READY) ## adherence of the embedded checkpoint on held-out prompts
	$(VENV)/bin/python -m model.tiny.evaluate $(ARGS)

clean: ## remove the environment and all caches; videos and data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info

$(READY): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || { echo "Making the environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(VENV)/bin/python -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"wanserve needs Python >= 3.11, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.11")'
	@echo "Installing (the first time takes some minutes)"
	$(if $(TORCH_INDEX_URL),$(PIP) --index-url $(TORCH_INDEX_URL) torch)
	$(PIP) -e '.[dev]'
	@touch $@

$(OLD_SDK)/.ready: $(READY)
	$(PIP) --no-deps --target $(OLD_SDK) "openai>=2.54,<3" distro
	touch $@
