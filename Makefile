PYTHON ?= python3
PY := .venv/bin/python
LOCK := requirements/dev.lock
SEARCH := throttling_sequencer_fastapi/throttling_sequencer/infrastructure/optimal_search.py

CLI := .venv/bin/api-server-cli --app throttling_sequencer.app:SEQUENCER

.PHONY: setup run test test-all fuzz check bench lock lab lab-down lab-report demo-failover

setup: .venv/compiled  ## make .venv with everything that is needed, from the lock

.venv/installed: $(LOCK) api_server_fastapi/pyproject.toml throttling_sequencer_fastapi/pyproject.toml
	@scripts/setup "$(PYTHON)" $(LOCK)

.venv/compiled: .venv/installed $(SEARCH)
	@echo "Compiling the search for proven optima (half a minute, once) …"
	@$(PY) -c 'from throttling_sequencer.di.planning import warm_up; warm_up()' && touch $@

run: setup  ## serve on UVICORN_HOST:UVICORN_PORT, with a database of its own
	@exec $(PY) throttling_sequencer_fastapi/manage.py --env-file configuration/local_or_ide/local_development.env

test: setup  ## what every change must pass
	@$(PY) -m pytest -m "not slow"

test-all: setup  ## the slower rest
	@$(PY) -m pytest -m slow

fuzz: setup  ## ask whatever the schemas allow and what they do not, for minutes; FUZZ_SEED=n does it otherwise
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-300} $(PY) -m pytest tests/fuzz

check: setup  ## style, types, architecture
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && .venv/bin/lint-imports

.venv/bench: .venv/installed requirements/bench.lock
	@$(PY) -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes --requirement requirements/bench.lock
	@touch $@

bench: setup .venv/bench  ## measure, and write bench/results
	@$(PY) -m bench

lab: setup  ## run the service over two databases and HAProxy, to try failovers on; api-server-cli lab --help says how
	@$(CLI) lab up --service --haproxy --route haproxy

lab-down:  ## stop what `make lab` started
	@$(CLI) lab down

demo-failover: setup  ## a minute of writes, a kill -9 and a promotion: nothing is lost; then the same done wrong
	@$(PY) -m bench.failover demo

lab-report: setup .venv/bench  ## try every failover, and write bench/results/failover.json and docs/failover.md
	@$(PY) -m bench.failover report

lock:  ## resolve requirements/*.lock anew; needs uv
	@scripts/lock
