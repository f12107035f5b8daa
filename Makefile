# Everything runs in a virtual environment of the checkout's own; nothing has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What the demo needs is a small part of what the tests need.
DEMO_STAMP := $(VENV)/.installed-for-demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?= -n 2
# The lowest versions that pyproject.toml declares, in an environment of their own.
LOWEST := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.installed
# What of the tests says whether the versions of the packages below aredun will do; `make test` runs them too.
CORE_TESTS := \
	tests/test_backend.py tests/recording/test_caches.py tests/cli/test_cli_completion.py tests/storage/test_cancellations.py tests/storage/test_database.py \
	tests/test_dependencies.py tests/search/test_query.py tests/recording/test_recording.py tests/transfer/test_records.py \
	tests/workflow/test_scheduler.py tests/workflow/test_executors.py tests/workflow/test_scheduler_storm.py tests/storage/test_schema.py tests/server/test_server_api.py \
	tests/transfer/test_sync.py tests/recording/test_tags.py tests/bridge/test_write_behind.py tests/storage/test_writer.py \
	tests/bridge/test_redun_bridge.py::test_workflow_leaves_the_rows_that_redun_leaves \
	tests/bridge/test_redun_bridge.py::test_every_kind_of_read_sees_what_is_queued

.DEFAULT_GOAL := help
.PHONY: help install demo test test-lowest pictures browser pooler test-redun check docs package locked lock bench format clean

help:
	@echo "make demo    run a real async workflow, re-run it from cache, and show its dataflow"
	@echo "make test    every test, on sqlite and on a real PostgreSQL"
	@echo "make test-lowest  the core's tests, with the lowest versions that pyproject.toml declares"
	@echo "make test-redun  redun's own tests, with aredun's bridge in place of its backend"
	@echo "make check   ruff format and lint, mypy strict, hadolint, schemas of what CI and compose read"
	@echo "make docs    the documentation site, into site/"
	@echo "make pictures  the pictures of the viewer in README and docs, taken anew"
	@echo "make package wheel and sdist, tried in clean environments (PYTHONS=3.11 for one)"
	@echo "make locked  the tests' environment with the versions of uv.lock, not the newest"
	@echo "make bench   the side-by-side table against redun"
	@echo "make format  rewrite the code in the house format"

install: $(STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(STAMP): pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[dev]"
	@touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[server]"
	@touch $@

demo: $(DEMO_STAMP)
	$(BIN)/python examples/variants/demo.py

test: $(STAMP) browser pooler
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# uv is the installer that can choose the lowest versions; what only tests need is as new as goes with those.
$(LOWEST_STAMP): pyproject.toml Makefile | $(STAMP)
	$(BIN)/uv venv --quiet --clear --python 3.11 $(LOWEST)
	$(BIN)/uv pip compile --quiet --python-version 3.11 --resolution lowest-direct --extra aws --extra completion --extra dask --extra redun --extra server --output-file $(LOWEST)/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(LOWEST) --constraint $(LOWEST)/lowest.txt --editable ".[aws,completion,dask,redun,server,test]"
	@touch $@

test-lowest: $(LOWEST_STAMP)
	$(LOWEST)/bin/python -m tests.support.dependencies
	$(LOWEST)/bin/python -m pytest $(PYTEST_ARGS) $(CORE_TESTS)

# The viewer is tested in Debian's Chromium: whoever may install it gets it, others are told.
browser:
	@command -v chromium >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >/dev/null && apt-get install -y -qq chromium >/dev/null; } \
	|| { echo "the viewer's tests need a browser: apt-get install chromium"; exit 1; }

# The tests of a pooler run a real one. Debian puts it where not everybody's PATH looks.
pooler:
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >/dev/null && apt-get install -y -qq pgbouncer >/dev/null; } \
	|| { echo "the tests of the pooler need pgbouncer: apt-get install pgbouncer"; exit 1; }

test-redun: $(STAMP)
	$(BIN)/python -m tests.redun_suite

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

# Warnings are errors. tests/test_docs_site.py builds it too, and looks at what came out.
docs: $(STAMP)
	$(BIN)/zensical build --clean --strict

# tests/server/test_viewer_pictures.py takes them too, of a smaller example.
pictures: $(STAMP) browser
	$(BIN)/python -m tests.pictures

# Those of 3.11 to 3.13 that the machine has; what PYTHONS names has to be there.
package: $(STAMP)
	$(BIN)/python -m tests.package $(PYTHONS)

# An environment as everybody has it who uses the lock file; `make install` takes the newest versions.
locked: | $(BIN)/python
	$(PIP) uv
	$(BIN)/uv sync --locked --extra dev
	@touch $(STAMP) $(DEMO_STAMP)

lock: $(STAMP)
	$(BIN)/uv lock

bench: $(STAMP)
	$(BIN)/python -m benchmarks

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(LOWEST) .mypy_cache .pytest_cache .ruff_cache .cache build dist site
