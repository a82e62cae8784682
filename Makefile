PYTHON ?= python3
PY := .venv/bin/python
LOCK := requirements/dev.lock

.PHONY: setup run test test-all check bench lock

setup: .venv/installed  ## make .venv with everything that is needed, from the lock

.venv/installed: $(LOCK) api_server_fastapi/pyproject.toml throttling_sequencer_fastapi/pyproject.toml
	@scripts/setup "$(PYTHON)" $(LOCK)

run: setup  ## serve on UVICORN_HOST:UVICORN_PORT, with a database of its own
	@exec $(PY) throttling_sequencer_fastapi/manage.py --env-file configuration/local_or_ide/local_development.env

test: setup  ## what every change must pass
	@$(PY) -m pytest -m "not slow"

test-all: setup  ## the slower rest
	@$(PY) -m pytest -m slow

check: setup  ## style, types, architecture
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && .venv/bin/lint-imports

bench: setup  ## measure, and write bench/results
	@$(PY) -m bench

lock:  ## resolve requirements/*.lock anew; needs uv
	@scripts/lock
