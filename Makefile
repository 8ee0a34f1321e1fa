PYTHON ?= python3
BIN := .venv/bin
# Processes of the tests, such as "make test JOBS=2": two share one cache of compiled kernels. 0 is none but pytest's own.
JOBS ?= 0
# Such as "tests/methods -k fastv".
PYTEST_ARGS ?=

.PHONY: demo test lint bench studies clean

# The demo needs the base package alone; a stamp a set of extras keeps later runs quick.
.venv/base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/dev: .venv/base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv/base
	$(BIN)/asymsim savings --model llava-1.5-7b,phi-3.5-vision,qwen2.5-vl-7b --gpu h100_sxm \
		--method asymvlm,desap,fastv,sparsevlm,pyramiddrop,visionzip,dart,holov,flashvlm,vscan \
		--out out/demo

test: .venv/dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: .venv/dev
	$(BIN)/python -m pytest tests/bench --benchmark-only -q -s

# From 04 on: those before need the development extras and say themselves how they are run.
STUDIES := $(sort $(wildcard studies/0[4-9]_*.py studies/[1-9][0-9]_*.py))

studies: .venv/base
	set -e; for study in $(STUDIES); do $(BIN)/python $$study; done
	$(BIN)/python studies/write_findings.py

study-%: .venv/base
	$(BIN)/python studies/*_$*.py

clean:
	rm -rf .venv out
