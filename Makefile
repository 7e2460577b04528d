# SPDX-License-Identifier: GPL-2.0-only
# The commands of a checkout. Each does all the set-up that it needs, and repeats none.

.DEFAULT_GOAL := help
.PHONY: help setup run check nightly bench docs lock

# A kernel build that we start must not use this make's job server.
unexport MAKEFLAGS MFLAGS MAKELEVEL

help:
	@echo 'make run     set up what is missing, then patch, build, boot, stress and judge the default kernel'
	@echo 'make check   set up what is missing, then the whole test suite: lint, types, unit, guest'
	@echo 'make nightly the tests that take hours: the matrix of plans/nightly.yaml, every mutant, an hour of generated scenarios'
	@echo 'make bench   measure every figure of benchmarks/ and its peer, and write benchmarks/RESULTS.md'
	@echo 'make docs    write the documents as a site: build/site/index.html'
	@echo 'make setup   only install Debian packages and .venv; afterwards try .venv/bin/harness --help'
	@echo 'make lock    write a new requirements.lock from pyproject.toml'
	@echo
	@echo 'ARGS="…" is passed on: make run ARGS="--source debian:6.1", make check ARGS="lint unit"'

setup:
	@sh setup/setup.sh

run: setup
	@.venv/bin/harness run $(ARGS)

check: setup
	@.venv/bin/python -m setup.check $(ARGS)

nightly:
	@sh setup/setup.sh nightly
	@.venv/bin/python -m setup.nightly $(ARGS)

bench: setup
	@.venv/bin/python -m benchmarks $(ARGS)

docs: setup
	@.venv/bin/python -m setup.site

lock: setup
	@sh setup/lock.sh $(ARGS)
