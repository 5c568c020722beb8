# Every target does its own set-up, so each works from a fresh clone.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
ENGINE_VENV := .venv-engine
CHECKOV_VENV := .venv-checkov
PEERS_VENV := .venv-peers
BIN := $(VENV)/bin

# torch's CPU build: from pip's own find-links where one is set, else from the index that uv knows as "cpu".
FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
ifneq ($(FIND_LINKS),)
export UV_FIND_LINKS := $(FIND_LINKS)
else
TORCH := --torch-backend cpu
endif

# Images that have an extra, and so a lock, of their own.
SERVICES := gateway billing operator

# The system's certificates, as pip uses them: a company's proxy has its own.
export UV_SYSTEM_CERTS := 1

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.complete $(ENGINE_VENV)/.complete ## Make .venv (services, tools) and .venv-engine (Ray, vLLM)

$(VENV)/.complete: requirements/dev.lock requirements/uv.lock requirements/build.lock pyproject.toml
	@echo "[setup 1/2] $(VENV): the services and the tools"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --build-constraints requirements/build.lock --editable .
	@touch $@

$(ENGINE_VENV)/.complete: requirements/engine.lock requirements/build.lock pyproject.toml | $(VENV)/.complete
	@echo "[setup 2/2] $(ENGINE_VENV): Ray and vLLM, about 2.3 GB on disk"
	@test -x $(ENGINE_VENV)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(ENGINE_VENV)
	@$(BIN)/uv pip sync --python $(ENGINE_VENV)/bin/python --require-hashes --compile-bytecode $(TORCH) requirements/engine.lock
	@$(BIN)/uv pip install --quiet --python $(ENGINE_VENV)/bin/python --no-deps --build-constraints requirements/build.lock --editable .
	@touch $@

$(CHECKOV_VENV)/.complete: requirements/checkov.lock | $(VENV)/.complete
	@echo "[checks] $(CHECKOV_VENV): checkov, which reads the Terraform modules"
	@test -x $(CHECKOV_VENV)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(CHECKOV_VENV)
	@$(BIN)/uv pip sync --quiet --python $(CHECKOV_VENV)/bin/python --require-hashes requirements/checkov.lock
	@touch $@

.PHONY: demo
demo: setup ## From an API key to a reconciled invoice on real parts (KEEP=1 leaves the stack up)
	@$(BIN)/headrace demo $(if $(KEEP),--keep)

.PHONY: lint
lint: $(VENV)/.complete ## Format check, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.complete ## Format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: setup $(CHECKOV_VENV)/.complete lint ## Lint, then every test, on the real parts
	$(BIN)/pytest

.PHONY: chart-check
chart-check: $(VENV)/.complete ## Render the chart over its values, hold it to clusters' schemas and to the rules for pods
	$(BIN)/pytest tests/chart tests/images

.PHONY: chart-generate
chart-generate: $(VENV)/.complete ## Write what of the chart follows from its values and from the ModelDeployment's definition
	$(BIN)/python deploy/helm/generate.py

.PHONY: chaos
chaos: $(VENV)/.complete ## Kill, stop and slow every part under traffic and count what is lost (MINUTES=3 SEED=1)
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),3) --seed $(or $(SEED),1)

.PHONY: terraform-check
terraform-check: $(VENV)/.complete $(CHECKOV_VENV)/.complete ## Format, validate, test and scan the Terraform modules, offline
	$(BIN)/pytest tests/terraform

.PHONY: images
images: ## Build and push every image (BASE=Python's image by digest, REGISTRY=…, VERSION=…); prints their digests
	sh deploy/docker/images.sh "$(BASE)" "$(REGISTRY)" "$(VERSION)"

$(PEERS_VENV)/.complete: requirements/peers.lock | $(VENV)/.complete
	@echo "[peers] $(PEERS_VENV): what the gateway is measured beside"
	@test -x $(PEERS_VENV)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(PEERS_VENV)
	@$(BIN)/uv pip sync --quiet --python $(PEERS_VENV)/bin/python --require-hashes requirements/peers.lock
	@touch $@

# LiteLLM is half a gigabyte and has no lock; its opentelemetry is not asked for by it, but without it every request
# tries the import again.
.PHONY: bench-peers
bench-peers: $(PEERS_VENV)/.complete ## Install what the gateway is measured beside (LITELLM=1 PORTKEY=1: those too; nginx is your system's)
	$(if $(LITELLM),$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(PEERS_VENV)/litellm)
	$(if $(LITELLM),$(BIN)/uv pip install --quiet --python $(PEERS_VENV)/litellm/bin/python 'litellm[proxy]' \
	  opentelemetry-api opentelemetry-sdk opentelemetry-exporter-otlp)
	$(if $(PORTKEY),npm install --silent --no-audit --no-fund --prefix $(PEERS_VENV)/portkey @portkey-ai/gateway@1.15.2)

.PHONY: bench-gateway
bench-gateway: $(PEERS_VENV)/.complete ## CPU time and latency of the gateway beside its peers: benchmarks/results/gateway.json (ROUNDS=5)
	$(BIN)/python -m benchmarks.gateway --rounds $(or $(ROUNDS),5)

.PHONY: soak
soak: $(VENV)/.complete ## Mixed traffic through one worker, its memory watched, and nothing left behind (MINUTES=10)
	$(BIN)/python -m benchmarks.gateway.soak --minutes $(or $(MINUTES),10)

.PHONY: bench-billing
bench-billing: $(VENV)/.complete ## Events a second into the books, usage queries, an invoice run (NOUN=ingest for one, CUSTOMERS=100000 LINES=50)
	$(BIN)/python -m benchmarks.billing $(NOUN) --customers $(or $(CUSTOMERS),100000) --lines $(or $(LINES),50)

.PHONY: train-tiny
train-tiny: setup ## Train glm-tiny anew from its seed into build/glm-tiny (about 30 CPU-minutes)
	OMP_NUM_THREADS=1 $(ENGINE_VENV)/bin/python -m headrace_platform.catalog.tiny.train \
	  --out $(or $(OUT),build/glm-tiny) --seed 0 --steps 3400

.PHONY: evaluate-tiny
evaluate-tiny: setup ## Measure glm-tiny's answers on held-out questions, through a running stack's engine (URL=…)
	$(BIN)/python -m headrace_platform.catalog.tiny.evaluate --url $(or $(URL),http://127.0.0.1:8000)

.PHONY: lock
lock: $(VENV)/.complete ## Recompute requirements/*.lock from pyproject.toml and requirements/engine.in
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links --no-emit-package headrace --quiet --output-file requirements/dev.lock
	for image in $(SERVICES); do $(BIN)/uv pip compile pyproject.toml --extra $$image --constraint requirements/dev.lock \
	  --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --no-emit-package headrace --quiet --output-file requirements/$$image.lock; done
	$(BIN)/uv pip compile requirements/engine.in --override requirements/engine-overrides.txt --generate-hashes \
	  --python-version 3.11 --no-emit-index-url --no-emit-find-links $(TORCH) --quiet --output-file requirements/engine.lock
	env -u UV_FIND_LINKS $(BIN)/uv pip compile requirements/engine-cuda.in --override requirements/engine-cuda-overrides.txt \
	  --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
	  --no-emit-index-url --no-emit-find-links --quiet --output-file requirements/engine-cuda.lock
	$(BIN)/uv pip compile requirements/build.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --quiet --output-file requirements/build.lock
	$(BIN)/uv pip compile requirements/checkov.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --quiet --output-file requirements/checkov.lock
	$(BIN)/uv pip compile requirements/peers.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --quiet --output-file requirements/peers.lock
	$(BIN)/uv pip compile requirements/uv.in --generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
	  --output-file requirements/uv.lock

.PHONY: clean
clean: ## Remove the environments and caches (not .headrace/, which holds state)
	rm -rf $(VENV) $(ENGINE_VENV) $(CHECKOV_VENV) $(PEERS_VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
