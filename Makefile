# What a person types; meson.build has the build, tools/ the scripts.

BUILD   ?= build
PREFIX  ?= /usr
DESTDIR ?=
SOAK_SECONDS ?= 600
FUZZ_SECONDS ?= 60
CONF    := $(DESTDIR)/etc/immure/immure.conf

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/install-packages --check build
	@meson setup --prefix=$(PREFIX) $(BUILD)

# Never replaces a configuration that is there.
install: all
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD)
	@test -e $(CONF) || install -m 644 $(CONF).example $(CONF)

demo:
	@tools/demo start

demo-stop:
	@tools/demo stop

test:
	@tools/run-tests

# BENCH=--quick: in two minutes
bench:
	@bench/run $(BENCH)

# SOAK_SECONDS=60: shorter than ten minutes
soak: all
	@tools/install-packages build nginx test
	@tools/soak --seconds $(SOAK_SECONDS)

# Where Debian has none of a token's packages, it is skipped by name.
tokens: all
	@tools/install-packages build nginx demo test tokens
	@tools/install-packages tokens-13 || true
	@IMMURE_BUILD=$(CURDIR)/$(BUILD) /usr/bin/python3 -m pytest -p no:cacheprovider -ra \
	    --tables=$(BUILD)/tokens.md tests/e2e/test_tokens.py

# FUZZ_SECONDS=3600: an hour a target
fuzz:
	@tools/install-packages build fuzz
	@tools/fuzz --seconds $(FUZZ_SECONDS)

# PACKAGES_TEST='--release trixie': for another release of Debian
packages-test:
	@tools/install-packages packages
	@tools/test-packages $(PACKAGES_TEST)

lint:
	@tools/lint

# RELEASES='trixie sid': these only
distributions:
	@tools/test-distributions $(RELEASES)

clean:
	rm -rf $(BUILD) $(BUILD)-clang $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-analyzer $(BUILD)-distributions

help:
	@echo 'make            build into $(BUILD)/'
	@echo 'make demo       as root: nginx on https://localhost:8443 with its keys in a SoftHSM token'
	@echo 'make demo-stop  end the demo and remove what it made'
	@echo 'make test       as root: install what is missing and run every test'
	@echo 'make bench      as root: measure; with BENCH=--quick in two minutes'
	@echo 'make soak       as root: every fault there is, for SOAK_SECONDS=600, under verified handshakes'
	@echo 'make tokens     as root: with each token that Debian has; the table is $(BUILD)/tokens.md'
	@echo 'make fuzz       as root: each fuzz target for FUZZ_SECONDS=60'
	@echo 'make distributions  as root: make test on Debian 12, 13, sid, and with OpenSSL 4, in roots of their own'
	@echo 'make packages-test  as root: build, install, upgrade and purge the Debian packages in chroots'
	@echo 'make lint       clang-format, cppcheck, clang-tidy and the analysers'
	@echo 'make install    DESTDIR= PREFIX=/usr; configuration in /etc/immure'
	@echo 'make clean      remove the build directories'

.PHONY: all install demo demo-stop test bench soak tokens fuzz distributions packages-test lint clean help
