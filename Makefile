# Layer by Layer. `make help` says what can be made; every target sets up what it needs by itself.
#
# Written for GNU make 3.81 (the one that macOS ships) and later, and for a plain POSIX shell.
#
#   PYTHON=python3.12    which Python to build the virtual environment from (default: the first that is >= 3.10)
#   JOBS=4               how many notebooks run at once (default: the number of cores)
#   OFFLINE=1            make book: a site that asks no other host for anything
#   NETWORK=1            make notebooks: let the notebooks reach the network (off by default)
#   TORCH_INDEX=URL      package index of the torch wheels (Linux default: torch's CPU index)
#   PORT=8000            make serve
#   PART=layers          make test: one part of the course, or ground, or browser

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup notebooks book serve lab exercises claims bench specimens lint test lock clean

VENV ?= .venv
PY := $(VENV)/bin/python
PORT ?= 8000
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# A -j given on the command line reaches the notebooks through make's own job server.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

# PyPI's torch for Linux brings several GB of CUDA; the CPU build lives on torch's own index. A machine with its
# own folder of wheels (PIP_FIND_LINKS) needs no second index.
ifeq ($(shell uname -s),Linux)
ifeq ($(PIP_FIND_LINKS),)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif
endif
PIP_INSTALL = $(PY) -m pip install --disable-pip-version-check --no-deps
FROM_TORCH = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# The environment is ready while a file exists that is named after what it was installed from.
KEY := $(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(KEY)

help: ## show this list
	@echo "Layer by Layer"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'
	@echo
	@sed -n 's/^#   \([A-Z_]*=\)/  \1/p' Makefile

setup: $(READY) ## virtual environment with everything, from requirements.lock

$(PY):
	@found=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "Python 3.10 or newer is needed; make PYTHON=/path/to/python3 ..."; exit 1; fi; \
	echo "making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# --no-deps: the lock names every package, so nothing else (CUDA libraries, say) can arrive.
$(READY): | $(PY)
	$(PIP_INSTALL) $(FROM_TORCH) --requirement requirements.lock
	$(PIP_INSTALL) --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-* && touch $(READY)

notebooks: $(READY) ## execute what changed among the chapters and solutions
	@$(PY) tools/deps.py
	@$(MAKE) --no-print-directory $(PARALLEL) --keep-going -f tools/notebooks.mk PY=$(PY) PART=$(PART) notebooks

book: notebooks ## the site, in build/html
	@$(MAKE) --no-print-directory -f tools/notebooks.mk PY=$(PY) site
	@echo "the book is in $(CURDIR)/build/html/index.html"
	@echo "make serve shows it on http://localhost:$(PORT)"

serve: ## serve build/html on this machine
	@test -f build/html/index.html || { echo "nothing to serve yet: make book"; exit 1; }
	@echo "http://localhost:$(PORT)   (Ctrl-C ends it)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory build/html $(PORT)

lab: $(READY) ## the exercises in JupyterLab, on your own copy in learn/
	@$(PY) tools/lab.py $(ARGS)

exercises: $(READY) ## write the exercises anew from the solutions
	@$(PY) tools/exercises.py

claims: $(READY) ## measure every experiment whose code changed
	@$(PY) -m course_lib.experiments run

bench: $(READY) ## time our layers against their peers, and side by side
	@$(PY) -m course_lib.bench run $(ARGS)

specimens: $(READY) ## train the specimens whose code changed
	@$(PY) -m course_lib.specimens build

lint: $(READY) ## style of the code, and exercises in step with the solutions
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) tools/exercises.py --check

test: lint notebooks ## everything that must hold, the notebooks' outputs included
	@$(PY) tools/run_tests.py $(if $(PART),--part $(PART)) $(ARGS)

lock: $(READY) ## resolve pyproject.toml anew into requirements.lock
	@$(PIP_INSTALL) --quiet uv
	@$(PY) tools/lock.py

clean: ## remove everything made, but not the environment and not learn/
	rm -rf build .pytest_cache .ruff_cache
