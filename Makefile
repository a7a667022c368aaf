# SPDX-License-Identifier: Apache-2.0
# A thin front: everything is done by debian/install-deps, meson, tests/setup and tests/run.
#
#   make run           build and serve on 127.0.0.1:8090; ARGS="--set log.level=debug" adds arguments
#   make build         only build, in build/
#   make test          everything; make test-quick: lint, unit tests and wire cases
#   make demo          a tour with a Hub double
#   make bench         measurements
#   make asan, tsan    unit tests and wire cases with sanitizers, in build-asan/ and build-tsan/
#   make lint          the rules of HACKING.md
#   make install       below DESTDIR and PREFIX
#   make clean

BUILD ?= build
PREFIX ?= /usr/local
PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
VENV_PYTHON := .venv-tests/bin/python
DAEMON = $(BUILD)/daemon/hfcached
# A warning stops the build where we look at it, not where somebody else's compiler knows a new one.
WERROR := $(if $(filter true,$(CI)),true,false)
# Quiet when there is nothing to do.
NINJA = ninja -C $(BUILD) $(if $(V),-v,--quiet) $(1) | sed '/^ninja: no work to do/d; /^ninja: Entering directory/d'
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c

.PHONY: run build build-tests test test-quick demo bench asan tsan lint install clean deps deps-tests

run: deps $(BUILD)/build.ninja
	@$(call NINJA,daemon/hfcached)
	@exec $(DAEMON) $(ARGS)

build: deps $(BUILD)/build.ninja
	@$(call NINJA,all)

deps:
	@debian/install-deps

deps-tests:
	@tests/setup

# Optimised, with debug symbols, assertions on (the defaults of meson.build). Without tests until they are asked for.
$(BUILD)/build.ninja: | deps
	@mkdir -p $(BUILD)
	@meson setup $(BUILD) --prefix=$(PREFIX) -Dtests=disabled -Dwerror=$(WERROR) >$(BUILD)/setup.log || \
		{ tail -n 20 $(BUILD)/setup.log; exit 1; }
	@echo "Building in $(BUILD); this takes a minute, once"

$(BUILD)/.with-tests: | $(BUILD)/build.ninja deps-tests
	@meson configure $(BUILD) -Dtests=enabled -Dwerror=$(WERROR) >/dev/null
	@touch $@

build-tests: deps-tests $(BUILD)/.with-tests
	@$(call NINJA,all meson-test-prereq)

test: build-tests
	@tests/run --build $(BUILD)

test-quick: build-tests
	@tests/run --build $(BUILD) --quick

lint: deps-tests
	@tests/run --build $(BUILD) --suite lint

demo: build
	@tests/setup --demo
	@HFCACHED=$(abspath $(DAEMON)) .venv-demo/bin/python tests/demo.py

bench: build-tests
	@HFCACHED=$(abspath $(DAEMON)) $(PYTHON) tests/bench/bench.py $(ARGS)

# The first report ends the program that made it; tests of the daemon look for reports in what it wrote.
asan tsan: export ASAN_OPTIONS = halt_on_error=1:detect_leaks=1
asan tsan: export UBSAN_OPTIONS = halt_on_error=1:print_stacktrace=1
asan tsan: export TSAN_OPTIONS = halt_on_error=1:second_deadlock_stack=1:suppressions=$(abspath tests/tsan.supp)
asan: export HFCACHED_SLOW = 3
tsan: export HFCACHED_SLOW = 6
asan: SANITIZE = address,undefined
tsan: SANITIZE = thread
asan tsan: deps-tests
	@test -f build-$@/build.ninja || meson setup build-$@ -Dtests=enabled -Db_sanitize=$(SANITIZE) -Db_lundef=false -Doptimization=1 >/dev/null
	@$(MAKE) --no-print-directory BUILD=build-$@ sanitized

.PHONY: sanitized
sanitized:
	@$(call NINJA,all meson-test-prereq)
	@tests/run --build $(BUILD) --suite unit --suite fuzz-replay --suite wire

install: deps $(BUILD)/build.ninja
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@$(call NINJA,all)
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir=$(abspath $(DESTDIR)))

clean:
	rm -rf $(BUILD) build-asan build-tsan .venv-demo .venv-tests .venv-hub0 .venv-hub1 .venv-gradio .venv-llama
