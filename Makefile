# SPDX-License-Identifier: MIT
# Every target installs what it lacks (tools/setup says what it does).
PYTHON ?= python3
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
READY := $(VENV)/.ready
TARGETS_READY := $(VENV)/.targets

.PHONY: demo test test-verifier test-heavy pytest ctest asan tsan fuzz fuzz-optional lint types rom-header footprint bench check more-checks dev clean
.DEFAULT_GOAL := test

# The two commands of the README -------------------------------------------------

demo: $(READY)
	@$(RUN) python tools/demo.py

test: ctest pytest

# The parts ----------------------------------------------------------------------

$(READY): pyproject.toml meson.build tools/setup
	PYTHON=$(PYTHON) tools/setup $(VENV)
	touch $@

dev: $(READY)

# Cross compilers, QEMU and a Redis server are for tests alone.
$(TARGETS_READY): tools/setup_targets $(READY)
	tools/setup_targets
	touch $@

pytest: $(READY) $(TARGETS_READY)
	@$(RUN) python -m pytest

# The whole suite, with pages leaving whenever they may, and in the worst order.
test-verifier: $(READY) $(TARGETS_READY)
	@$(RUN) python -m pytest --verifier worst
	@$(RUN) python -m pytest --verifier random tests/store

# What takes hours: millions of steps, and of touches by several threads.
test-heavy: $(READY)
	@$(RUN) python -m pytest -m heavy
	$(call ctest,tsan,--suite heavy,$(TSAN))

# $(call ctest,DIRECTORY,WHICH,SETUP OPTIONS): build the core and run C tests.
define ctest
	@$(RUN) meson setup build/$(1) --reconfigure $(3) >/dev/null
	@$(RUN) meson test -C build/$(1) --print-errorlogs $(2)
endef

ctest: $(READY)
	$(call ctest,c,--no-suite heavy,-Dbuildtype=debugoptimized)

asan: $(READY)
	$(call ctest,asan,--no-suite heavy,-Dbuildtype=debug -Doptimization=1 -Db_lundef=false -Db_sanitize=address$(comma)undefined)

tsan: $(READY)
	$(call ctest,tsan,--no-suite heavy,$(TSAN))

comma := ,
TSAN := -Dbuildtype=debug -Doptimization=1 -Db_lundef=false -Db_sanitize=thread

# make fuzz SECONDS_EACH=60; `check` goes on where clang or atheris cannot be had, and says so.
fuzz: $(READY)
	@$(RUN) tools/fuzz $(SECONDS_EACH)

fuzz-optional: $(READY)
	@$(RUN) tools/fuzz --optional $(SECONDS_EACH)

lint: $(READY)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

# From src/: at the top level mypy takes our codecs/ for the standard library's.
types: $(READY)
	cd src && $(RUN) mypy --config-file ../pyproject.toml
	cd src && $(RUN) mypy --config-file ../pyproject.toml tests ../bench ../tools ../examples
	@$(RUN) pyright

# The ROM reader as one file (examples/bare-metal), without zstd; needs nothing but Python.
rom-header:
	@$(PYTHON) tools/make_rom_header.py out/pagestep_rom.h

# What the ROM reader takes on each target whose compiler is here: docs/rom-footprint.csv.
footprint: $(READY)
	@$(RUN) python tools/footprint.py

bench: $(READY)
	@$(RUN) tools/bench

check: test more-checks

# What CI runs beside the README's test command.
more-checks: lint types test-verifier asan tsan fuzz-optional

clean:
	rm -rf build $(VENV) out
