# make repro: everything on a fresh machine, then the table.   make test: everything that proves it.
SHELL := /bin/bash
JOBS ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# With bytecode switched off every start would cost ten seconds instead of two.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

.PHONY: repro test quick lint lock clean

repro: .venv/ready
	python -m stages repro --jobs $(JOBS)
	@[ metrics/report.html -nt dvc.lock ] || python -m stages report  # DVC, which doesn't know the page, skips a report whose text is there
	@echo
	@cat metrics/report.md
	@echo
	@echo "All of it, with pictures, in a browser: metrics/report.html"
	@echo "The detector is data/detector. Try it on a photograph, which is no digit:"
	@echo "    .venv/bin/atypical predict .venv/lib/python3*/site-packages/sklearn/datasets/images/china.jpg"

# Two at a time: most of a test is a process that starts. What shares a fixture stays together (tests/conftest.py).
test: .venv/ready
	python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=10

quick: .venv/ready
	python -m pytest -m "not slow"

lint: .venv/ready
	ruff check .
	ruff format --check .
	lint-imports
	mypy

# The environment: uv, then everything from the hash-locked file, with bytecode compiled once; then the command `atypical`, on this folder.
.venv/ready: requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	uv pip sync --quiet --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock
	uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch $@

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dvc --extra onnx --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .scratch data/basis data/calibrated data/detector data/evaluation data/features data/mask data/models data/prepared
	rm -rf data/align data/diffusion data/dreamed/* data/embeddings/* data/painted data/proofs
