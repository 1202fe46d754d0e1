# Everything runs in .venv (with ROS_WHEELS=kilted .venv-kilted), which is made on first use; `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

ifdef ROS_DISTRO
ifdef ROS_WHEELS
$(error ROS_WHEELS is for a shell without ROS; here ROS_DISTRO is $(ROS_DISTRO))
endif
endif

VENV := .venv$(addprefix -,$(ROS_WHEELS))
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
CHECKED := segnet_ros test launch setup.py $(wildcard examples)

# Where ROS 2 is sourced, that ROS is used; elsewhere its Python wheels are installed, Jazzy's or,
# with ROS_WHEELS=kilted, Kilted's.
ifdef ROS_DISTRO
FITS := import sys, venv, rclpy; assert sys.version_info >= (3, 11)
PYTHONS := 3.11 or newer
VENV_OPTIONS := --system-site-packages
RUN := .[video]
TEST := .[train,demo,test]
# The numpy that ROS's OpenCV is built for.
KEEP = "numpy==$$($(BIN)/python -c 'import numpy; print(numpy.__version__)')"
else
# The Pythons that the wheels are built for.
FITS := import sys, venv; assert sys.version_info[:2] in ((3, 11), (3, 12))
PYTHONS := 3.11 or 3.12
VENV_OPTIONS :=
RUN := .[ros,video]
TEST := .[ros,train,demo,test,ros-test]
KEEP :=
endif

# An environment with ROS's packages lacks the wheels, and the other way round.
ROS := $(or $(ROS_DISTRO),none)
MADE_WITH := $(file < $(VENV)/.python)
USES_IT := $(if $(filter clean,$(MAKECMDGOALS)),,$(filter-out help,$(MAKECMDGOALS)))
ifneq ($(and $(USES_IT),$(filter-out $(ROS),$(MADE_WITH))),)
$(error $(VENV) was made in a shell with ROS $(MADE_WITH) sourced, now it is $(ROS): use such a shell, or `make clean` first)
endif

# $(call install,WHAT): pip without its chatter, with its errors.
install = PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --disable-pip-version-check $(1) $(KEEP) 2>&1 \
	| sed '/^WARNING: Location/d'

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## */  make \1@/p' $(MAKEFILE_LIST) | column -t -s @

.PHONY: demo
demo: $(VENV)/.run  ## drive the real node with the sample drive, or with BAG=PATH (TOPIC=...); see demo_output/
	@$(BIN)/segnet drive $${BAG:+"$$BAG"} $${TOPIC:+--topic "$$TOPIC"} -o demo_output

.PHONY: test
test: lint  ## lint, then the whole test suite
	@$(BIN)/python -m pytest

# Vehicles have Ubuntu's OpenCV, which reads and writes some files unlike PyPI's newest. Where ROS is
# sourced, `make test` uses it anyway.
ifndef ROS_DISTRO
NOBLE := opencv-python-headless==4.6.0.66
READS_AND_WRITES := $(addprefix test/test_,$(addsuffix .py,camera conversions demo_page end_to_end \
	evaluate predict record_bag sources street_view video))

.PHONY: noble
noble: $(VENV)/noble  ## the tests of pictures and videos once more, with Ubuntu 24.04's OpenCV
	@echo '* with $(NOBLE)'
	@PYTHONPATH='$(CURDIR)/$(VENV)/noble' $(BIN)/python -m pytest $(READS_AND_WRITES)

$(VENV)/noble: $(VENV)/.test
	@$(call install,--upgrade --no-deps --target $@ $(NOBLE))
	@touch $@
endif

.PHONY: lint
lint: $(VENV)/.test  ## ruff, mypy on the core, ament_flake8, ament_pep257
	@$(MAKE) --no-print-directory --jobs=2 --output-sync $(LINTERS)

# mypy takes as long as the others together.
LINTERS := mypy ruff flake8 pep257
.PHONY: $(LINTERS)
mypy:
	@echo '* mypy' && $(BIN)/mypy --no-error-summary
ruff:
	@echo '* ruff' && $(BIN)/ruff check --quiet --output-format concise
flake8:
	@echo '* ament_flake8' && $(call failing,$(BIN)/ament_flake8 --config setup.cfg $(CHECKED))
pep257:
	@echo '* ament_pep257' && $(call failing,$(BIN)/ament_pep257 $(CHECKED))

# $(call failing,COMMAND): its output where it fails, nothing where it does not.
failing = { output=$$($(1) 2>&1) || { echo "$$output"; false; }; }

.PHONY: bench
bench: $(VENV)/.run  ## measure the network and the whole path on this machine
	@$(BIN)/python -c 'import matplotlib' 2> /dev/null || $(call install,matplotlib)
	@$(BIN)/segnet bench --json bench_output/bench.json --plot bench_output/bench.png

.PHONY: venv
venv: $(VENV)/.test  ## .venv with all that development needs

.PHONY: clean
clean:  ## remove all that the targets above have made
	@rm -rf .venv .venv-* demo_output bench_output build install log segnet_ros.egg-info
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.python:
	@for python in $(if $(filter command line,$(origin PYTHON)),$(PYTHON),$(PYTHON) \
			python3.12 python3.11 python3); do \
		if $$python -c 'import ensurepip; $(FITS)' 2> /dev/null; then \
			echo "* making $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV_OPTIONS) $(VENV); \
			$(call install,-U pip); \
			echo $(ROS) > $@; \
			exit; \
		fi; \
	done; \
	echo 'segnet_ros needs Python $(PYTHONS) with its venv module$(if $(ROS_DISTRO), and rclpy,).'; \
	echo 'On Ubuntu 24.04 or Debian 12: sudo apt install python3-venv$(if \
		$(ROS_DISTRO), ros-$(ROS_DISTRO)-rclpy,).'; \
	echo 'Or name another Python: make PYTHON=/path/to/python3.12 ...'; \
	exit 1

# A PyTorch that is there stays: on a Jetson, only its maker's knows the GPU.
$(VENV)/.torch: $(VENV)/.python
	@if ! $(BIN)/python -c 'import importlib.util as u; assert u.find_spec("torch")' 2> /dev/null; then \
		echo '* installing $(TORCH)'; \
		$(call install,$(TORCH)); \
	fi
	@touch $@

$(VENV)/.run: setup.py $(VENV)/.torch
	@echo '* installing segnet_ros and what it runs with'
	@$(call install,-e '$(RUN)')
	@touch $@

$(VENV)/.test: setup.py $(VENV)/.run
	@echo '* installing what training and the tests need'
	@$(call install,-e '$(TEST)')
	@touch $@
