# batchacct: `make help` lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# What the tests start servers of, besides PostgreSQL: MariaDB, and a Slurm cluster with its accounting database in one.
CLUSTER_PACKAGES = mariadb-server munge slurm-wlm slurmdbd
# Spark runs on it.
SPARK_PACKAGES = openjdk-17-jre-headless
# Brokers that messages are sent to.
BROKER_PACKAGES = activemq rabbitmq-server
# What the sensor is built with and held against: other C libraries, other word sizes.
SENSOR_PACKAGES = gcc libc6-dev gcc-multilib musl-tools strace gdb perl
# What judges the units; no systemd has to run.
UNIT_PACKAGES = systemd
# An independent reader of process accounting.
ACCOUNTING_PACKAGES = acct
# The browser that pages of the portal are tested with.
BROWSER_PACKAGES = chromium chromium-driver
# Linkers and a compiler that programs are signed with, and binutils of other machines.
LINKER_PACKAGES = binutils-aarch64-linux-gnu binutils-powerpc64le-linux-gnu binutils-riscv64-linux-gnu clang lld mold
# promtool, which tries the alert rules.
MONITORING_PACKAGES = prometheus
# What packages are built and judged with, and a clean root for them.
PACKAGE_PACKAGES = rpm debhelper lintian rpmlint mmdebstrap iproute2
# What reads or shows the time of a zone: run in a second one as well, but for the servers, whose sessions are in UTC, and for
# logs damaged by chance.
TIMES = cecol cli/test_instants.py cli/test_parse.py cpuhours demo ledger loccol procacct/test_accounting_report.py \
	procacct/test_recorded_elsewhere.py procacct/test_top.py pub/test_formats.py pub/test_formats_xml.py pub/test_schedule.py \
	pub/test_summaries.py test_cron.py
# Among them, but of lengths of time, of names and of bytes.
TIMELESS = cpuhours/test_distribution.py ledger/test_rereading.py ledger/test_tampering.py
FUZZ ?= 1000000
HISTORIES ?= 2000
KILLS ?= 500
FARMS ?= 30
PUBLISHER_KILLS ?= 300
FAULTS ?= 10
# More than cores: half of its time a worker waits, for a server, a disk, a clock.
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=5

.PHONY: help demo test check lint types docs-fresh second-zone bench soak growth fuzz crash faults year docs clean
.PHONY: dist rpm deb packages-check packages-lint lock vulnerabilities

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/ready ## The whole job on generated logs; leaves everything in demo/
	$(BIN)/batchacct demo

test: $(VENV)/ready-test ## Install what the tests need, then run them
	$(PYTEST)

check: lint types second-zone ## Format, lint, types, tests in a second time zone, then all tests
	$(PYTEST)

lint: $(VENV)/ready-test
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/ready-test
	$(BIN)/mypy -n 2

second-zone: $(VENV)/ready-test
	TZ=Pacific/Chatham $(PYTEST) -m "not slow" -k "not mariadb and not postgresql and not fuzz and not mutated" \
		$(addprefix tests/,$(TIMES)) $(addprefix --ignore=tests/,$(TIMELESS))

bench: $(VENV)/ready-test ## Measure, and print ratios (BENCH_JOBS=, BENCH_UNITS=, APEL_SRC= for the comparison with an APEL checkout)
	$(BIN)/python -m benchmarks

soak: $(VENV)/ready-test ## A collector under load for SOAK_SECONDS= (1200) into SOAK_DATABASE= (sqlite, postgresql), and at rest
	$(BIN)/python -m benchmarks.soak

growth: $(VENV)/ready-test ## Growth of each phase with the jobs, BENCH_SIZES= on BENCH_DATABASE= (sqlite, postgresql, mariadb); half an hour
	$(BIN)/python -m benchmarks.growth

fuzz: $(VENV)/ready-test ## The long fuzz run: FUZZ= damaged excerpts (a million) through every parser; hours
	BATCHACCT_FUZZ=$(FUZZ) $(PYTEST) -k "fuzz or mutated or lanes"

crash: $(VENV)/ready-test ## HISTORIES= random histories of logs on each database, KILLS= kills under load; the better part of an hour
	BATCHACCT_HISTORIES=$(HISTORIES) BATCHACCT_KILLS=$(KILLS) BATCHACCT_FARMS=$(FARMS) $(PYTEST) \
		tests/following/test_histories.py tests/crash tests/archive/test_kill.py tests/archive/test_invisible.py

faults: $(VENV)/ready-test ## The table of faults: PUBLISHER_KILLS= (300) over databases and transports, FAULTS= (10) of each kind; 20 minutes
	BATCHACCT_KILLS=$(PUBLISHER_KILLS) BATCHACCT_FAULTS=$(FAULTS) $(PYTEST) \
		tests/faults/test_publisher_killed.py tests/faults/test_brokers.py tests/pub/test_stomp.py

year: $(VENV)/ready-test ## A simulated year of a site with five batch systems, and its ledger; YEAR="--database postgresql --seed 2"; 15 minutes
	$(BIN)/python -m tests.year $(YEAR)

dist: $(VENV)/ready-packages ## The source's tarball and a wheel, the same bytes of the same commit, into dist/
	$(BIN)/python -m tools.packages.build dist

rpm: $(VENV)/ready-packages ## The RPMs into dist/; fetches what the locks name first, and needs no network after that
	$(BIN)/python -m tools.packages.build rpm

deb: $(VENV)/ready-packages ## The DEBs into dist/, in the same way
	$(BIN)/python -m tools.packages.build deb

packages-check: $(VENV)/ready-packages ## Builds both, now and of an earlier schema, and tries them in clean roots without network; 5 GB in build/
	$(BIN)/python -m tools.packages.previous build/packages/previous
	mkdir -p build/packages/previous/build/packages
	for what in rpm deb; do \
		$(BIN)/python -m tools.packages.build $$what --quick --output build/packages/trial; \
		cp -rf build/packages/wheels build/packages/previous/build/packages/; \
		(cd build/packages/previous; SOURCE_DATE_EPOCH=1700000000 BATCHACCT_INSTALLED=$(CURDIR)/build/packages/installed \
			$(CURDIR)/$(BIN)/python -m tools.packages.build $$what --quick --output $(CURDIR)/build/packages/trial); \
	done
	BATCHACCT_PACKAGES=build/packages/trial $(BIN)/python -m pytest -q tests/packaging/test_clean_roots.py

packages-lint: $(VENV)/ready-packages ## What rpmlint and lintian say of dist/, but for what is told in docs/how-to/install.md; minutes
	rpmlint -r rpm/batchacct.rpmlintrc rpm/batchacct.spec dist/*.rpm
	lintian --fail-on error,warning --tag-display-limit 0 --allow-root dist/*.deb

lock: $(VENV)/ready-packages ## Pin anew what the packages vendor, and write its bill of materials
	$(BIN)/python -m pip install -q --disable-pip-version-check uv cyclonedx-bom
	$(BIN)/python -m tools.packages.lock --uv $(BIN)/uv
	$(BIN)/python -m tools.packages.bill --cyclonedx $(BIN)/cyclonedx-py

vulnerabilities: $(VENV)/ready-packages ## Known vulnerabilities of what the packages vendor; asks the internet
	$(BIN)/python -m pip install -q --disable-pip-version-check pip-audit
	@# strict: else what could not be asked for would pass for harmless
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes $(addprefix -r ,$(wildcard tools/packages/locks/*.txt)) || { echo \
		"Either a library above has a known vulnerability: raise it in setup.cfg, make lock. Or it could not be asked for, and nothing" \
		"is known: run this where PyPI itself can be reached, as a mirror of packages alone has no list of them." >&2; exit 1; }

docs: $(VENV)/ready-test ## Write the generated pages anew, and build the site of all pages in build/docs
	$(BIN)/python -m docs.build

clean: ## Remove the virtual environment, the demo and caches
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./tools/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/ready-packages: setup.cfg pyproject.toml tools/system-packages | $(VENV)/ready-test
	@./tools/system-packages $(PACKAGE_PACKAGES)
	@touch $@

$(VENV)/ready-test: setup.cfg pyproject.toml tools/system-packages | $(VENV)/ready
	@./tools/system-packages postgresql $(CLUSTER_PACKAGES) $(SPARK_PACKAGES) $(BROKER_PACKAGES) $(UNIT_PACKAGES) $(SENSOR_PACKAGES) \
		$(ACCOUNTING_PACKAGES) $(LINKER_PACKAGES) $(BROWSER_PACKAGES) $(MONITORING_PACKAGES)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[ams,http,postgres,mysql,oracle,portal,smime,spark,stomp,test,docs,dev]'
	@touch $@
