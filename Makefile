# Commands for estimator_spec_ext; `make` alone lists them.
#
# They run in their own virtual environment, .venv, made on first use. Variables:
#   PYTHON=python3.11   the interpreter to make it with (3.9 to 3.13)
#   TENSORFLOW=2.18.1   another version of TensorFlow than fits that interpreter best
#   VENV=DIR            another place for it
#   ARGS='-k loss'      further arguments for pytest (make test) or the example (make demo)

VENV := .venv
RUN := $(VENV)/bin/python
ARGS :=

# The caller's own Python and pip settings stay out of it: they would let other packages in, or
# install somewhere else. What names a mirror or a proxy (PIP_INDEX_URL, ...) still counts.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONOPTIMIZE PYTHONWARNINGS
unexport VIRTUAL_ENV CONDA_PREFIX __PYVENV_LAUNCHER__
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIREMENT PIP_CONSTRAINT PIP_NO_DEPS
unexport PIP_EDITABLE PIP_DRY_RUN PIP_NO_BINARY PIP_ONLY_BINARY PIP_PRE PIP_QUIET PIP_VERBOSE
export PIP_USER := 0
export PYTHONNOUSERSITE := 1
export PYTHON TENSORFLOW
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help venv demo test test-thirdparty test-mistakes test-cluster test-dist readme lint
.PHONY: test-matrix test-bazel bazel bench scoreboard rules-table docs docs-output dist clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

venv:  ## Make the virtual environment .venv, if it is missing or out of date
	@sh tools/make_venv.sh "$(VENV)"

demo: venv  ## Train, export and serve a digits classifier, then show a report of ten faults
	@faults=$$(mktemp); \
	"$(RUN)" -m estimator_spec_ext run --execute examples/many_faults.py >"$$faults" 2>&1 & \
	job=$$!; \
	"$(RUN)" -m estimator_spec_ext run --execute examples/digits_classifier.py $(ARGS); status=$$?; \
	wait $$job || status=$$?; \
	echo; cat "$$faults"; rm -f "$$faults"; \
	exit $$status

test: venv  ## Run all tests twice: with TensorFlow 2 behaviour and with TF1 behaviour
	@sh tools/test_both.sh "$(RUN)" $(ARGS)

test-thirdparty:  ## Run the estimators of other packages through strict_model_fn, in both behaviours
	@sh tools/make_venv.sh "$(VENV)-thirdparty" requirements-thirdparty.txt
	@status=0; \
	for tf1 in 0 1; do \
	    ESE_THIRDPARTY=1 ESE_TF1_BEHAVIOR=$$tf1 "$(VENV)-thirdparty/bin/python" -m pytest \
	        tests/thirdparty --write-results $(ARGS) || status=1; \
	done; \
	exit $$status

test-mistakes: venv  ## Run programs with every class of mistake, and their correct twins
	@ESE_MISTAKES=1 sh tools/test_both.sh "$(RUN)" tests/mistakes tests/jobs $(ARGS)

test-matrix: venv  ## Run the suite on each pair of Python and TensorFlow: two hours
	@"$(RUN)" tools/matrix.py --venv "$(VENV)" $(ARGS)

test-dist: venv  ## Install the wheel into fresh environments and test the installed package
	@ESE_DIST=1 "$(RUN)" -m pytest tests/dist $(ARGS)

bazel:
	@command -v bazel >/dev/null || { apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends bazel-bootstrap; }

test-bazel: venv bazel  ## Run the tests with Bazel, which is installed if it is missing (Debian, as root)
	@PYTHON_BIN_PATH="$$(cd "$(VENV)/bin" && pwd)/python" bazel test $(or $(TARGETS),//...) $(ARGS)

dist: venv  ## Build the wheel and the source distribution into dist/
	@"$(RUN)" tools/build_dist.py dist

test-cluster: venv  ## Run real clusters of processes on this machine: every strategy, and faults
	@ESE_CLUSTER=1 "$(RUN)" -m pytest tests/cluster $(ARGS)

readme: venv  ## Write the report, the picture and the tables of README.md anew
	@"$(RUN)" examples/digits_classifier.py --output docs/images
	@"$(RUN)" -m tests.mistakes.stock
	@"$(RUN)" tools/readme.py

docs: venv  ## Build the documentation site into site/
	@"$(RUN)" -c 'import mkdocs, mkdocstrings' 2>/dev/null || "$(RUN)" -m pip install -q \
	    --disable-pip-version-check -r requirements-docs.txt
	@NO_MKDOCS_2_WARNING=1 "$(RUN)" -m mkdocs -q build

docs-output: venv  ## Run the code of the documentation, and write what it prints into it
	@"$(RUN)" tools/docs.py

lint: venv  ## Run the linter and the type checker
	@status=0; \
	"$(RUN)" -m ruff check . || status=1; \
	"$(RUN)" -m mypy || status=1; \
	"$(RUN)" -m mypy --strict --follow-imports=silent tests/typing/user_program.py || status=1; \
	exit $$status

bench: venv  ## Measure the cost of the checks against stock TensorFlow
	@"$(RUN)" benchmarks/run.py $(ARGS)

scoreboard: venv  ## Write docs/scoreboard.md: when stock tells of each mistake, and when we do
	@"$(RUN)" tools/scoreboard.py $(ARGS)

rules-table: venv  ## Write docs/rules.md anew from the rules
	@"$(RUN)" -m estimator_spec_ext rules --format markdown > docs/rules.md.new
	@mv docs/rules.md.new docs/rules.md

clean:  ## Remove .venv and everything that these commands wrote
	@for dir in "$(VENV)" "$(VENV)"-*; do \
	    if [ -e "$$dir/.made-by-make" ]; then rm -rf "$$dir"; fi; \
	done
	@rm -rf .build dist digits_out site .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@rm -rf estimator_spec_ext.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
