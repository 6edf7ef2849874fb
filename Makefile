# Every target does its own set-up; the second time that takes a second. `make help` lists them.
VENV ?= .venv
ARGS ?=

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env msgs demo test lint bench clean

# Set by a Python of another environment, it would keep this one from finding its ROS libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
# A sourced ROS 2 install would mix its libraries and its choice of middleware with the wheels'.
ifdef ROS_DISTRO
unexport ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION PYTHONPATH LD_LIBRARY_PATH
unexport AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION
endif

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

env: ## make .venv with the locked packages and this package, editable
	@tools/make_env.sh $(VENV)

msgs: env ## build wm_vla_msgs into .venv
	@tools/build_msgs.sh $(VENV)

demo: msgs ## the whole stack on a simulated arm: three instructions, a video, a table (ARGS=--json)
	@tools/check_system.sh
	$(VENV)/bin/wm-vla demo $(ARGS)

test: msgs ## every test (ARGS="-k gate" narrows it)
	@tools/check_system.sh
	$(VENV)/bin/python tools/run_tests.py $(ARGS)

lint: env ## ruff, its formatter, mypy on the pure core
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: msgs ## how well the fast loop keeps its 50 Hz on this machine
	@tools/check_system.sh
	$(VENV)/bin/wm-vla bench loop --seconds 180 $(ARGS)

clean: ## remove the environment and everything built; data/ and outputs/ stay
	rm -rf $(VENV) build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find wm_vla_ros test launch tools -name __pycache__ -prune -exec rm -rf {} +
