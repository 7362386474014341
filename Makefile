# Needs python3.11 or python3.12 with its venv module, and make; everything else comes from the
# locked dependencies. All paths are relative, so the folder may have any name, spaces included.

# The first interpreter that runs and is of a supported version; PYTHON=... overrides.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && { echo "$$python"; break; }; done)
# Made and kept up to date here; a relative path without spaces.
VENV ?= .venv
PIP = "$(VENV)/bin/python" -m pip --disable-pip-version-check --quiet
INSTALL_LOCKED = $(PIP) install --require-hashes --only-binary :all: --requirement
UV_COMPILE = build/uv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--only-binary :all: --generate-hashes --custom-compile-command "make lock" --quiet $(UPGRADE)

# demo: a folder with the NSL-KDD files instead of the input that comes with the project
DATA ?=
# simulate: how many worlds, and the seed of the first
SEEDS ?= 20
FIRST ?= 1
# fuzz: how many inputs for each target, which target instead of all, and what the inputs are drawn from
INPUTS ?= 20000
TARGET ?=
SEED ?= 1
# twins: how many scenarios, of how many rounds each; federated: how many rounds, 5 unless they are given
SCENARIOS ?= 2000
ROUNDS ?= 6
# soak: for how long
MINUTES ?= 60
# model: full or quick
SIZE ?= full
# testnet: where its four nodes live
TESTNET ?= build/testnet
# test: pytest's processes, and whatever else pytest should be told
WORKERS ?= auto
# kill, e2e: how often a node is killed and under how many transactions a second, and how long a chain
# a node that starts from nothing fetches; and how many transactions one joins by snapshot
KILLS ?= 50
RATE ?= 500
BLOCKS ?= 5000
TRANSACTIONS ?= 15000
# test, bench, planted-bugs, e2e, kill, crashpoints: further arguments
ARGS ?=

# Recipes quote it as "$$DATA", so that the shell sees one word whatever is in it.
export DATA TARGET

.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo 'make demo [DATA=PATH]            four miners, fifty devices, a summary; ends by itself'
	@echo 'make test [ARGS=...]             the whole test suite'
	@echo 'make check                       format, lint, types, layers'
	@echo 'make format                      put the code into the form that check wants'
	@echo 'make testnet                     four nodes that stay up, in $(TESTNET)'
	@echo 'make bench [ARGS=...]            transactions per second and latency of four nodes'
	@echo 'make bench-ml [ARGS=...]         how long the bundled detectors take for a block, and for one flow'
	@echo 'make report DATA=PATH            what the paper prints beside what its experiment gives; takes minutes'
	@echo 'make bench-fl DATA=PATH          federated learning against its targets; takes minutes'
	@echo 'make flower [ARGS=...]           the environment with Flower, and what is tested in it'
	@echo 'make flower-e2e                  a SuperLink and two SuperNodes over TLS, anchored on four miners'
	@echo 'make evaluate DATA=PATH          detectors trained on KDDTrain+, measured on KDDTest+; takes minutes'
	@echo 'make train-again DATA=PATH       trains the bundled models anew: the same to the bit?'
	@echo 'make numpy-versions [DATA=PATH]  the verdicts of the models under several versions of numpy'
	@echo 'make simulate SEEDS=n FIRST=s    whole nodes in n simulated worlds'
	@echo 'make fuzz INPUTS=n [TARGET=name] n hostile inputs for every reader of bytes, or for one'
	@echo 'make twins SCENARIOS=n ROUNDS=r  two copies of a miner with one key, on networks that are cut'
	@echo 'make soak MINUTES=n              four nodes at full load for n minutes: what grows?'
	@echo 'make federated [DATA=PATH]       ten participants and four miners, some killed, some lying: ROUNDS=5'
	@echo 'make planted-bugs [ARGS=...]     bugs put in on purpose, each found by the simulator'
	@echo 'make model [SIZE=quick]          the core of agreement in every order of events (spin, gcc)'
	@echo 'make e2e [BLOCKS=n]              networks of processes and of containers: stopped, killed, cut off'
	@echo 'make kill KILLS=n RATE=r         n kills while r transactions a second come in'
	@echo 'make crashpoints                 a node killed at every call that makes something durable (strace)'
	@echo 'make lock [UPGRADE=--upgrade]    write requirements/*.lock anew from pyproject.toml'
	@echo 'make clean                       remove what was built, test networks too; the environment stays'

.PHONY: demo
demo: $(VENV)/.installed-run
	@"$(VENV)/bin/securenet" demo $(if $(DATA),--data "$$DATA")

.PHONY: test
test: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: check
check: $(VENV)/.installed-dev
	"$(VENV)/bin/python" -m ruff format --check .
	"$(VENV)/bin/python" -m ruff check .
	"$(VENV)/bin/python" -m mypy
	"$(VENV)/bin/lint-imports" --no-logo

.PHONY: format
format: $(VENV)/.installed-dev
	"$(VENV)/bin/python" -m ruff format .
	"$(VENV)/bin/python" -m ruff check --fix .

.PHONY: testnet
testnet: $(VENV)/.installed-run
	@test -d "$(TESTNET)" || "$(VENV)/bin/securenet" testnet init --miners 4 --dir "$(TESTNET)"
	@"$(VENV)/bin/securenet" testnet up --dir "$(TESTNET)"

.PHONY: bench
bench: $(VENV)/.installed-run
	@"$(VENV)/bin/securenet" bench $(ARGS)

.PHONY: bench-ml
bench-ml: $(VENV)/.installed-run
	@"$(VENV)/bin/securenet" model bench $(ARGS)

.PHONY: report
report: $(VENV)/.installed-dev
	@test -n "$$DATA" || { echo 'make: name the folder with the NSL-KDD files: make report DATA=PATH' >&2; exit 2; }
	@"$(VENV)/bin/securenet" model report --data "$$DATA" --out build/report $(ARGS)

.PHONY: train-again
train-again: $(VENV)/.installed-dev
	@test -n "$$DATA" || { echo 'make: name the folder with the NSL-KDD files: make train-again DATA=PATH' >&2; exit 2; }
	@ALL_MODELS=1 SECURENET_NSL_KDD="$$DATA" "$(VENV)/bin/python" -m pytest --quiet \
		tests/unit/ml_validator/test_manifest.py -k again $(ARGS)

.PHONY: evaluate
evaluate: $(VENV)/.installed-dev
	@test -n "$$DATA" || { echo 'make: name the folder with the NSL-KDD files: make evaluate DATA=PATH' >&2; exit 2; }
	@"$(VENV)/bin/securenet" model evaluate --data "$$DATA" $(ARGS)

.PHONY: bench-fl
bench-fl: $(VENV)/.installed-dev
	@test -n "$$DATA" || { echo 'make: name the folder with the NSL-KDD files: make bench-fl DATA=PATH' >&2; exit 2; }
	@"$(VENV)/bin/securenet" fl bench --data "$$DATA" $(ARGS)

# Flower needs other versions of some libraries than ours are locked at, so it lives apart.
FLOWER = build/flower-venv
.PHONY: flower
flower: $(FLOWER)/.installed
	@FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 "$(FLOWER)/bin/python" -m pytest --quiet \
		-W ignore tests/unit/cli/federated/flower $(ARGS)

.PHONY: flower-e2e
flower-e2e: $(FLOWER)/.installed
	@FLOWER=1 "$(FLOWER)/bin/python" -m pytest --quiet -W ignore -s tests/e2e/test_flower.py $(ARGS)

# Without dependencies: the lock is complete, and holds a Typer that Flower does not ask for.
$(FLOWER)/.installed: requirements/flower.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3.11 or python3.12 found; install one, or set PYTHON" >&2; exit 1; }
	@"$(FLOWER)/bin/python" -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear "$(FLOWER)"
	@echo "installing Flower and the locked dependencies into $(FLOWER)"
	@"$(FLOWER)/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes \
		--only-binary :all: --no-deps --requirement requirements/flower.lock
	@"$(FLOWER)/bin/python" -m pip --disable-pip-version-check --quiet install --no-index --no-deps \
		--no-build-isolation --editable .
	@touch "$@"

.PHONY: numpy-versions
numpy-versions: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m scripts.numpy_versions $(if $(DATA),--data "$$DATA") $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

.PHONY: fuzz
fuzz: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.fuzz --inputs $(INPUTS) --seed $(SEED) $(if $(TARGET),--target "$$TARGET")

.PHONY: twins
twins: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.twins --scenarios $(SCENARIOS) --rounds $(ROUNDS) $(ARGS)

.PHONY: soak
soak: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.soak --minutes $(MINUTES)

.PHONY: federated
federated: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.federated_rounds --rounds $(if $(filter file,$(origin ROUNDS)),5,$(ROUNDS)) \
		--seed $(SEED) $(if $(DATA),--data "$$DATA")

.PHONY: planted-bugs
planted-bugs: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.simulation.planted $(ARGS)

.PHONY: model
model: $(VENV)/.installed-dev
	@"$(VENV)/bin/python" -m tests.model $(SIZE)

.PHONY: e2e
e2e: $(VENV)/.installed-dev
	@CONTAINERS=1 KILLS=$(KILLS) RATE=$(RATE) BLOCKS=$(BLOCKS) TRANSACTIONS=$(TRANSACTIONS) \
		"$(VENV)/bin/python" -m pytest --quiet tests/e2e $(ARGS)

.PHONY: kill
kill: $(VENV)/.installed-dev
	@KILLS=$(KILLS) RATE=$(RATE) "$(VENV)/bin/python" -m pytest --quiet tests/e2e/test_kill.py $(ARGS)

.PHONY: crashpoints
crashpoints: $(VENV)/.installed-dev
	@command -v strace >/dev/null || { echo 'make: strace is missing; on Debian and Ubuntu: apt install strace' >&2; exit 1; }
	@POINTS=1000 "$(VENV)/bin/python" -m pytest --quiet tests/e2e/test_crashpoints.py $(ARGS)

# A venv which is broken (moved, half made, or Python was upgraded) is made again.
$(VENV)/.installed-run: requirements/run.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3.11 or python3.12 found; install one, or set PYTHON" >&2; exit 1; }
	@"$(VENV)/bin/python" -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear "$(VENV)" || \
		{ echo "make: cannot make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing the locked dependencies into $(VENV)"
	@$(INSTALL_LOCKED) requirements/run.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch "$@"

$(VENV)/.installed-dev: requirements/dev.lock $(VENV)/.installed-run
	@echo "installing the locked development tools into $(VENV)"
	@$(INSTALL_LOCKED) requirements/dev.lock
	@touch "$@"

# One lock for all supported versions of Python; only wheels, so that no compiler is needed.
.PHONY: lock
lock:
	@test -x build/uv/bin/uv || { "$(PYTHON)" -m venv build/uv && build/uv/bin/python -m pip install --quiet uv; }
	$(UV_COMPILE) --extra build --output-file requirements/run.lock
	$(UV_COMPILE) --extra build --extra dev --extra report --extra export --extra adversary --extra features --extra ckks \
		--constraint requirements/run.lock --output-file requirements/dev.lock
	$(UV_COMPILE) --extra build --extra dev --extra flower --override requirements/flower-overrides.txt \
		--output-file requirements/flower.lock

.PHONY: clean
clean:
	rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
