# SPDX-License-Identifier: GPL-2.0-only
# The commands of a checkout. Each does all the set-up that it needs, and nothing twice.

.DEFAULT_GOAL := help
.PHONY: help setup run check nightly bench lock

# A kernel build below us must not take part in this make's job server.
unexport MAKEFLAGS MFLAGS MAKELEVEL

help:
	@echo 'make run     set up what is missing, then patch, build, boot, press and judge the default kernel'
	@echo 'make check   set up what is missing, then the whole test suite: lint, types, unit, guest'
	@echo 'make nightly what takes hours: every scenario and mutant on each kernel, an hour of generated scenarios'
	@echo 'make bench   measure every figure of benchmarks/ with its peer, and write benchmarks/RESULTS.md'
	@echo 'make setup   Debian packages and .venv only; afterwards .venv/bin/harness --help'
	@echo 'make lock    write requirements.lock anew from pyproject.toml'
	@echo
	@echo 'ARGS="…" is passed on: make run ARGS="--source debian:6.1", make check ARGS="lint unit"'

setup:
	@sh setup/setup.sh

run: setup
	@.venv/bin/harness run $(ARGS)

check: setup
	@.venv/bin/python -m setup.check $(ARGS)

nightly: setup
	@.venv/bin/python -m setup.nightly $(ARGS)

bench: setup
	@.venv/bin/python -m benchmarks $(ARGS)

lock: setup
	@sh setup/lock.sh $(ARGS)
