# The packages: `make deb` and `make rpm`, from one prebuilt binary that runs on every glibc since 2.28.
#
# cargo-deb, cargo-zigbuild and zig are installed under target/, in the versions named here; the other tools are Debian's.

CARGO_DEB_VERSION      := 3.8.0
CARGO_ZIGBUILD_VERSION := 0.24.0
ZIG_VERSION            := 0.15.2
ANSIBLE_VERSION        := 2.19.14
GLIBC_VERSION          := 2.28

PACKAGE_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# ARCH=aarch64 makes the packages for arm64 on another machine: zig links them, qemu runs the program where its own word is wanted.
ARCH            := $(shell uname -m)
PACKAGE_TRIPLE  := $(ARCH)-unknown-linux-gnu
PACKAGE_TOOLS   := target/tools
PACKAGE_BINARY  := target/package/policyd-rate-guard
GENERATED       := target/generated

# Two builds of one version are the same, byte by byte, wherever and whenever they are made: the packages' times are that of the
# release, and no path of this machine is in the binary.
package-binary deb rpm: export SOURCE_DATE_EPOCH := $(shell date -u -d "$$(sed -n 's/^ -- .*>  //p' debian/changelog | head -n 1)" +%s)
CARGO_HOME ?= $(HOME)/.cargo
PACKAGE_RUSTFLAGS = --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(CARGO_HOME)=cargo
PACKAGE_CFLAGS    = -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(CARGO_HOME)=cargo

ifneq ($(ARCH),$(shell uname -m))
PACKAGE_BINUTILS := $(ARCH)-linux-gnu-
PACKAGE_RUN      := qemu-$(ARCH) -L /usr/$(ARCH)-linux-gnu
package-binary: cross-dependencies
cross-dependencies:
	@tests/dependencies cross-$(ARCH)
	rustup target add $(PACKAGE_TRIPLE)
endif

.PHONY: package-binary package-files deb rpm package-check repository vendor release container test-packages test-reproducible test-e2e test-trixie test-matrix

$(PACKAGE_TOOLS)/bin/cargo-deb:
	$(CARGO) install --locked --version $(CARGO_DEB_VERSION) --root $(PACKAGE_TOOLS) cargo-deb

$(PACKAGE_TOOLS)/zig/bin/cargo-zigbuild:
	python3 -m venv $(PACKAGE_TOOLS)/zig
	$(PACKAGE_TOOLS)/zig/bin/pip install --quiet --disable-pip-version-check \
	    ziglang==$(ZIG_VERSION) cargo-zigbuild==$(CARGO_ZIGBUILD_VERSION)

# Debian 12's own, 2.14, cannot drive a machine whose Python is 3.12 or later. This one drives all releases that are tested.
ANSIBLE := $(PACKAGE_TOOLS)/ansible/bin/ansible-playbook
$(ANSIBLE):
	python3 -m venv $(PACKAGE_TOOLS)/ansible
	$(PACKAGE_TOOLS)/ansible/bin/pip install --quiet --disable-pip-version-check ansible-core==$(ANSIBLE_VERSION)

# zig links against the symbols of an old glibc; PACKAGE_PREBUILT=FILE packs a binary that is already there.
package-binary: package-dependencies $(if $(PACKAGE_PREBUILT),,$(PACKAGE_TOOLS)/zig/bin/cargo-zigbuild)
ifndef PACKAGE_PREBUILT
	PATH="$(CURDIR)/$(PACKAGE_TOOLS)/zig/bin:$$PATH" RUSTFLAGS='$(PACKAGE_RUSTFLAGS)' CFLAGS='$(PACKAGE_CFLAGS)' \
	    $(CARGO) zigbuild --release --locked --target $(PACKAGE_TRIPLE).$(GLIBC_VERSION)
endif
	install -D -m 0755 $(or $(PACKAGE_PREBUILT),target/$(PACKAGE_TRIPLE)/release/policyd-rate-guard) $(PACKAGE_BINARY)
	$(PACKAGE_BINUTILS)strip $(PACKAGE_BINARY)
	OBJDUMP=$(PACKAGE_BINUTILS)objdump tests/packaging/glibc-check $(PACKAGE_BINARY) $(GLIBC_VERSION)

# What the binary says about itself, manual pages and completions, and what it is made of.
package-files: package-binary
	install -d $(GENERATED)/man $(GENERATED)/completions
	$(PACKAGE_RUN) $(PACKAGE_BINARY) manual --out $(GENERATED)/man
	$(PACKAGE_RUN) $(PACKAGE_BINARY) completions bash > $(GENERATED)/completions/policyd-rate-guard
	$(PACKAGE_RUN) $(PACKAGE_BINARY) completions zsh > $(GENERATED)/completions/_policyd-rate-guard
	$(PACKAGE_RUN) $(PACKAGE_BINARY) completions fish > $(GENERATED)/completions/policyd-rate-guard.fish
	gzip -9n < CHANGELOG.md > $(GENERATED)/changelog.gz
	deploy/sbom $(PACKAGE_TRIPLE) > $(GENERATED)/sbom.cdx.json

deb: package-files $(PACKAGE_TOOLS)/bin/cargo-deb ## the Debian package, in target/debian
	rm -rf target/debian
	PATH="$(CURDIR)/$(PACKAGE_TOOLS)/bin:$$PATH" $(CARGO) deb --no-build --no-strip --target $(PACKAGE_TRIPLE) --output target/debian/

RPM_TOP := target/rpm/build

rpm: package-files ## the RPM package, in target/rpm
	rm -rf $(RPM_TOP) target/rpm/*.rpm
	install -d $(RPM_TOP)/SOURCES
	tar --transform 's,^,policyd-rate-guard-$(PACKAGE_VERSION)/,' --owner=0 --group=0 --exclude=./target --exclude=./.git \
	    -czf $(RPM_TOP)/SOURCES/policyd-rate-guard-$(PACKAGE_VERSION).tar.gz .
	tar --transform 's,^[^/]*,prebuilt,' --owner=0 --group=0 -czf $(RPM_TOP)/SOURCES/policyd-rate-guard-$(PACKAGE_VERSION)-prebuilt.tar.gz \
	    -C target package/policyd-rate-guard generated/man generated/completions generated/sbom.cdx.json
	rpmbuild --quiet -bb --target $(ARCH) --define '_topdir $(CURDIR)/$(RPM_TOP)' --define 'package_version $(PACKAGE_VERSION)' \
	    --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
	    $(RPMBUILD_OPTIONS) rpm/policyd-rate-guard.spec
	cp $(RPM_TOP)/RPMS/*/*.rpm target/rpm/

REPOSITORY := target/repository

repository: deb rpm ## a signed APT and DNF repository with both packages: KEY= GnuPG's secret key, URL= where hosts will find it
	deploy/repository --key '$(KEY)' --url '$(URL)' $(REPOSITORY) target/debian/*.deb target/rpm/*.rpm

# By the rules of their systems: no error, no warning.
package-check: deb rpm ## both packages, and what lintian and rpmlint say of them
	lintian --allow-root --fail-on error,warning target/debian/*.deb
	apparmor_parser --skip-kernel-load --skip-cache etc/apparmor.d/policyd-rate-guard
	rpmlint --strict --config rpm/rpmlint.toml target/rpm/*.rpm rpm/policyd-rate-guard.spec

test: test-packages test-e2e test-trixie

test-packages: package-check ## as root: two builds give the same packages, what they are made of, without a network, a release; the container, by podman
	tests/packaging/reproducible
	tests/packaging/sbom
	tests/packaging/vendor
	tests/packaging/release
	tests/packaging/container

test-reproducible: package-check ## the same, with the program compiled anew in both folders: some ten minutes
	tests/packaging/reproducible --whole

vendor: ## the source with all that it is built from, for a build without a network: target/policyd-rate-guard-VERSION-vendored.tar.gz
	deploy/vendor target/policyd-rate-guard-$(PACKAGE_VERSION)-vendored

# A version: VERSION=1.0.0, KEY= and URL= as for a repository; DRY_RUN=yes only shows what would change.
release: ## changelogs, version, tag, packages, repository, checksums: VERSION= KEY= URL=, DRY_RUN=yes shows it first
	deploy/release $(if $(DRY_RUN),--dry-run) '$(VERSION)' '$(KEY)' '$(URL)'

container: package-binary ## the container image, by podman or docker: ENGINE=docker
	$(or $(ENGINE),podman) build --format docker --tag policyd-rate-guard:$(PACKAGE_VERSION) --file deploy/container/Containerfile .

test-matrix $(if $(SUITE),test-e2e): export ANSIBLE_PLAYBOOK = $(CURDIR)/$(ANSIBLE)

test-e2e: package-check $(if $(SUITE),$(ANSIBLE)) ## as root: both packages in a booted system with systemd and Postfix; WORDS= picks scenarios, SUITE= the release
	RIG_SUITE=$(SUITE) tests/e2e/rig/boot --image
	RIG_SUITE=$(SUITE) timeout --foreground 1800 tests/e2e/run $(WORDS)

test-trixie: package-check ## as root: on Debian 13 what depends on the release: installation, sockets, upgrade, sandbox, logs, reboot, removal
	RIG_SUITE=trixie tests/e2e/rig/boot --image
	RIG_SUITE=trixie timeout --foreground 900 tests/e2e/run installed starts-a-stopped upgrade-keeps privileges log-lines reboot purge

SUITES := bullseye bookworm trixie focal jammy noble resolute

test-matrix: package-check $(ANSIBLE) ## as root: the same on each release of SUITES=, and the table of docs/distributions.md
	tests/e2e/matrix $(SUITES)
