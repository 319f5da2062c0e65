# The packages: `make deb` and `make rpm`, from one prebuilt binary that runs on every glibc since 2.28.
#
# cargo-deb, cargo-zigbuild and zig are installed under target/, in the versions named here; the other tools are Debian's.

CARGO_DEB_VERSION      := 3.8.0
CARGO_ZIGBUILD_VERSION := 0.24.0
ZIG_VERSION            := 0.15.2
GLIBC_VERSION          := 2.28

PACKAGE_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
PACKAGE_TRIPLE  := $(shell uname -m)-unknown-linux-gnu
PACKAGE_TOOLS   := target/tools
PACKAGE_BINARY  := target/package/policyd-rate-guard
GENERATED       := target/generated

.PHONY: package-binary package-files deb rpm package-check test-e2e

$(PACKAGE_TOOLS)/bin/cargo-deb:
	$(CARGO) install --locked --version $(CARGO_DEB_VERSION) --root $(PACKAGE_TOOLS) cargo-deb

$(PACKAGE_TOOLS)/zig/bin/cargo-zigbuild:
	python3 -m venv $(PACKAGE_TOOLS)/zig
	$(PACKAGE_TOOLS)/zig/bin/pip install --quiet --disable-pip-version-check \
	    ziglang==$(ZIG_VERSION) cargo-zigbuild==$(CARGO_ZIGBUILD_VERSION)

# zig links against the symbols of an old glibc; PACKAGE_PREBUILT=FILE packs a binary that is already there.
package-binary: package-dependencies $(if $(PACKAGE_PREBUILT),,$(PACKAGE_TOOLS)/zig/bin/cargo-zigbuild)
ifndef PACKAGE_PREBUILT
	PATH="$(CURDIR)/$(PACKAGE_TOOLS)/zig/bin:$$PATH" \
	    $(CARGO) zigbuild --release --locked --target $(PACKAGE_TRIPLE).$(GLIBC_VERSION)
endif
	install -D -m 0755 $(or $(PACKAGE_PREBUILT),target/$(PACKAGE_TRIPLE)/release/policyd-rate-guard) $(PACKAGE_BINARY)
	strip $(PACKAGE_BINARY)
	tests/packaging/glibc-check $(PACKAGE_BINARY) $(GLIBC_VERSION)

# What the binary says about itself: manual pages and completions.
package-files: package-binary
	install -d $(GENERATED)/man $(GENERATED)/completions
	$(PACKAGE_BINARY) manual --out $(GENERATED)/man
	$(PACKAGE_BINARY) completions bash > $(GENERATED)/completions/policyd-rate-guard
	$(PACKAGE_BINARY) completions zsh > $(GENERATED)/completions/_policyd-rate-guard
	$(PACKAGE_BINARY) completions fish > $(GENERATED)/completions/policyd-rate-guard.fish
	gzip -9n < CHANGELOG.md > $(GENERATED)/changelog.gz

deb: package-files $(PACKAGE_TOOLS)/bin/cargo-deb ## the Debian package, in target/debian
	rm -rf target/debian
	PATH="$(CURDIR)/$(PACKAGE_TOOLS)/bin:$$PATH" $(CARGO) deb --no-build --no-strip --output target/debian/

RPM_TOP := target/rpm/build

rpm: package-files ## the RPM package, in target/rpm
	rm -rf $(RPM_TOP) target/rpm/*.rpm
	install -d $(RPM_TOP)/SOURCES
	tar --transform 's,^,policyd-rate-guard-$(PACKAGE_VERSION)/,' --owner=0 --group=0 --exclude=./target --exclude=./.git \
	    -czf $(RPM_TOP)/SOURCES/policyd-rate-guard-$(PACKAGE_VERSION).tar.gz .
	tar --transform 's,^[^/]*,prebuilt,' --owner=0 --group=0 -czf $(RPM_TOP)/SOURCES/policyd-rate-guard-$(PACKAGE_VERSION)-prebuilt.tar.gz \
	    -C target package/policyd-rate-guard generated/man generated/completions
	rpmbuild --quiet -bb --define '_topdir $(CURDIR)/$(RPM_TOP)' --define 'package_version $(PACKAGE_VERSION)' \
	    $(RPMBUILD_OPTIONS) rpm/policyd-rate-guard.spec
	cp $(RPM_TOP)/RPMS/*/*.rpm target/rpm/

# By the rules of their systems: no error, no warning.
package-check: deb rpm ## both packages, and what lintian and rpmlint say of them
	lintian --allow-root --fail-on error,warning target/debian/*.deb
	rpmlint --strict --config rpm/rpmlint.toml target/rpm/*.rpm rpm/policyd-rate-guard.spec

test: test-e2e
test-e2e: package-check ## as root: both packages in a booted Debian with systemd and Postfix; WORDS= picks scenarios
	tests/e2e/rig/boot --image
	timeout --foreground 1800 tests/e2e/run $(WORDS)
