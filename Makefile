# Every check runs the same way by hand, in the pre-commit hook and in CI: through these targets.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-board test test-without-containers test-containers test-browser test-secure check check-deployment chaos fuzz up down stack stack-down stack-secure stack-secure-down lock clean bench bench-quick

demo: .venv/runtime
	@$(BIN)/python scripts/demo.py

# The same with guests who never stop coming, and the board beside it, until Ctrl-C.
demo-board: .venv/runtime
	@$(BIN)/python scripts/demo_board.py

test: test-without-containers test-containers

# What mostly waits runs side by side, on servers of its own; what takes times or kills servers runs alone.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile
test-without-containers: .venv/dev
	$(BIN)/pytest $(SIDE_BY_SIDE) tests/unit
	$(BIN)/pytest $(SIDE_BY_SIDE) tests/integration
	$(BIN)/pytest tests/browser tests/chaos

test-containers: .venv/dev
	$(BIN)/pytest tests/containers

check: .venv/dev
	$(BIN)/python scripts/check_compatibility.py
	$(BIN)/python scripts/generate_types.py --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory check-deployment

# Renders the compose files and lints the workflow; needs no engine. CI fails where it cannot.
KRAFT := docker-compose.yaml:docker-compose.kraft.yaml
check-deployment:
	@if docker compose version >/dev/null 2>&1; then \
	  for files in docker-compose.yaml $(KRAFT) $(KRAFT):docker-compose.cluster.yaml $(KRAFT):docker-compose.secure.yaml; do \
	    COMPOSE_FILE=$$files docker compose config --quiet || exit 1; done; \
	else echo "not checked: the compose files; install Docker's compose plugin"; test -z "$$CI"; fi
	@if command -v go >/dev/null; then go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12; \
	else echo "not checked: the workflows; install Go"; test -z "$$CI"; fi

up:
	@$(PYTHON) scripts/up.py

down:
	docker compose down

# Eleven minutes of killing; CI has a short run of it among its tests. CHAOS_SEED=2 chooses other moments.
chaos: .venv/dev
	CHAOS=long $(BIN)/pytest tests/chaos

# All that is tested of the board in a browser, and README's picture of it.
test-browser: .venv/dev
	@mkdir -p .stack/screenshots
	BROWSER=long SCREENSHOTS=.stack/screenshots $(BIN)/pytest tests/browser
	cp .stack/screenshots/board-light-wide.png docs/board.png

# The locked overlay in containers, too, which CI leaves out for its time.
test-secure: .venv/dev
	SECURE=1 $(BIN)/pytest -m secure

fuzz: .venv/dev
	$(BIN)/python -m tests.fuzz

stack: .venv/runtime
	@$(BIN)/python -m stack.local up

stack-down: .venv/runtime
	@$(BIN)/python -m stack.local down

# The same with TLS, passwords and permissions: docs/security.md.
stack-secure: .venv/runtime
	@$(BIN)/python -m stack.secure up

stack-secure-down: .venv/runtime
	@$(BIN)/python -m stack.secure down

# What the product needs, and no more; .venv/dev adds what tests and checks need.
.venv/runtime: requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) or sys.exit("Python 3.11 to 3.14 is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@$(BIN)/python -m compileall -q contract runtime producer consumers # as pip does with all that it copies
	@touch $@

.venv/dev: .venv/runtime requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

UV_COMPILE := $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header --no-annotate
# Each peer of the benchmark names what it needs in its first lines, and has a lock and an environment of its own.
PEERS := $(patsubst %.txt,%,$(notdir $(wildcard benchmarks/peers/*.txt)))
PEER_ENVIRONMENTS := $(PEERS:%=.venv/bench/%/made)

# A quarter of an hour to twice that, on a quiet machine; parts of it: .venv/bin/python benchmarks/run.py --help
bench: .venv/runtime $(PEER_ENVIRONMENTS)
	@$(BIN)/python -m compileall -q contract runtime producer consumers
	@$(BIN)/python benchmarks/run.py --save

bench-quick: .venv/runtime .venv/bench/confluent_serdes/made .venv/bench/ready_bytes/made
	@$(BIN)/python -m compileall -q contract runtime producer consumers
	@$(BIN)/python benchmarks/run.py --quick

.venv/bench/%/made: benchmarks/peers/%.txt | .venv/runtime
	@$(PYTHON) -m venv --clear .venv/bench/$*
	@.venv/bench/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

lock:
	$(UV_COMPILE) pyproject.toml -o requirements/runtime.txt
	$(UV_COMPILE) --group build -o requirements/build.txt
	$(UV_COMPILE) pyproject.toml --group dev -o requirements/dev.txt
	for peer in $(PEERS); do $(UV_COMPILE) benchmarks/peers/$$peer.py -o benchmarks/peers/$$peer.txt || exit 1; done

clean: stack-down stack-secure-down
	rm -rf .venv .stack .mypy_cache .ruff_cache .pytest_cache .hypothesis
