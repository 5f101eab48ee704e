# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# `make demo TORCH_BACKEND=cpu`: PyTorch without the gigabytes of CUDA that pip takes on Linux.
TORCH_BACKEND ?=

.PHONY: demo test test-long random-graphs c-check embedded nengo-loihi fuzz monkey mutants lava-dl report-check lint format site pages adapters coverage accuracy runtimes sizes targets train soak lava-dl-full clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     the whole flow on real images: PyTorch, integers, Lava (ARGS=... for lapilli demo)"
	@echo "make test     every test (ARGS=... for pytest)"
	@echo "make test-long  what takes longer: every row of docs/coverage.md"
	@echo "make random-graphs  1000 random graphs that each simulator takes (ARGS=names, --enough N)"
	@echo "make c-check  portable C under gcc and clang: conformance, 1000 random graphs, sanitizers, families"
	@echo "make embedded  the digits networks in C on a Cortex-M4 and an RV32 of QEMU (fetches Debian packages; says which)"
	@echo "make nengo-loihi  every test of the nengo-loihi simulator, the digits networks too (minutes)"
	@echo "make fuzz     100000 damaged files through every reader (ARGS=--count N)"
	@echo "make mutants  planted faults, each of which tests must notice (about 15 minutes; ARGS=words)"
	@echo "make monkey   2000 spoiled calls of every command (ARGS=--count N)"
	@echo "make report-check  reports in a real browser: axe-core, console, screenshots (Debian's chromium)"
	@echo "make soak     100 runs of Lava in a row, compared; nothing may be left (ARGS=--runs N)"
	@echo "make lava-dl  lava-dl's own environment for make test-long (2.2 GB)"
	@echo "make lava-dl-full  the same with all that lava-dl asks for, to train with slayer (5.4 GB)"
	@echo "make lint     formatting, lint, types, layers"
	@echo "make site     the documentation as pages to read without a network: site/index.html"
	@echo "make pages    the references of commands and refusals, and the notebook, anew"
	@echo "make adapters docs/adapters.md anew: every neuron row beside its framework"
	@echo "make coverage docs/coverage.md anew: every family through every simulator (about 2 minutes)"
	@echo "make accuracy docs/accuracy.md anew: floats beside integers, every family (about 4 minutes)"
	@echo "make runtimes docs/runtimes.md anew: every family through other people's importers (about 20 minutes)"
	@echo "make sizes    docs/sizes.md anew: the largest published models (about 5 minutes)"
	@echo "make targets  docs/targets.md anew: widths, their sources, and how loose proofs are (a minute)"
	@echo "make train    reproduce the two shipped checkpoints (about 5 minutes on 2 cores)"

$(VENV)/.installed: pyproject.toml constraints.txt frameworks.txt
	@echo "[1/2] host environment in $(VENV): PyTorch, NIR, ONNX, tools; a few minutes the first time."
	@echo "      1.7 GB on disk with TORCH_BACKEND=cpu; on Linux without it pip fetches CUDA, too: several GB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==25.3
	$(if $(TORCH_BACKEND),$(BIN)/python -m pip install -c constraints.txt uv)
	$(if $(TORCH_BACKEND),$(BIN)/uv pip install --python $(BIN)/python --torch-backend=$(TORCH_BACKEND) -c constraints.txt torch)
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo]' --group dev
	$(BIN)/python -m pip install --no-deps -r frameworks.txt
	@touch $@

# The environment itself lives in the user's cache; `lapilli doctor` says where.
$(VENV)/.lava: $(VENV)/.installed simulators/lava/host/requirements.txt simulators/nengo_loihi/requirements.txt
	@echo "[2/2] environments of Lava and nengo-loihi (Python 3.10): 0.25 and 0.2 GB on disk, in the user's cache"
	$(BIN)/lapilli doctor --fix
	@touch $@

demo: $(if $(filter --no-lava,$(ARGS)),$(VENV)/.installed,$(VENV)/.lava)
	$(BIN)/lapilli demo $(ARGS)

test: $(VENV)/.lava
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# netx imports PyTorch: 0.8 GB to fetch, 2.2 GB on disk; only the tests of .net files use it.
$(VENV)/.lava-dl: $(VENV)/.lava tests/export/lava_dl.txt
	$(BIN)/uv venv --quiet --clear --python "$$($(BIN)/python -c 'from lapilli.simulators.lava.host.environment import LAVA; print(LAVA.find())')" $(VENV)/lava-dl
	$(BIN)/uv pip install --quiet --no-deps --python $(VENV)/lava-dl/bin/python -r tests/export/lava_dl.txt
	@touch $@

lava-dl: $(VENV)/.lava-dl

# What trains with slayer: torch 2.3 and CUDA. No test needs it; each can be pointed at it.
$(VENV)/.lava-dl-full: $(VENV)/.lava tests/export/lava_dl_full.txt
	$(BIN)/uv venv --quiet --clear --python "$$($(BIN)/python -c 'from lapilli.simulators.lava.host.environment import LAVA; print(LAVA.find())')" $(VENV)/lava-dl-full
	$(BIN)/uv pip install --quiet --no-deps --python $(VENV)/lava-dl-full/bin/python -r tests/export/lava_dl_full.txt
	@touch $@

lava-dl-full: $(VENV)/.lava-dl-full

test-long: $(VENV)/.lava-dl
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(ARGS)

random-graphs: $(VENV)/.lava
	$(BIN)/python -m lapilli.deploy.surveys.random_graphs $(ARGS)

c-check: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.c_check $(ARGS)

embedded: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.embedded model/checkpoints/digits_spikformer.safetensors model/checkpoints/digits_spike_driven.safetensors $(ARGS)

nengo-loihi: $(VENV)/.lava
	$(BIN)/python -m pytest -m "slow or not slow" tests/simulators/test_nengo_loihi.py tests/end_to_end/test_nengo_loihi.py $(ARGS)

fuzz: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

monkey: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m monkey $(ARGS)

mutants: $(VENV)/.lava
	PYTHONPATH=tests $(BIN)/python -m mutants $(ARGS)

soak: $(VENV)/.lava
	$(BIN)/python -m lapilli.deploy.surveys.soak $(ARGS)

# What drives the browser, and axe-core, in an environment of their own: 0.2 GB.
$(VENV)/.browser: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/browser
	$(VENV)/browser/bin/python -m pip install --quiet pip==25.3
	$(VENV)/browser/bin/python -m pip install --quiet -c constraints.txt --group browser
	@touch $@

report-check: $(VENV)/.installed $(VENV)/.browser
	$(BIN)/python -m lapilli.deploy.surveys.report_pages build/report-check
	$(VENV)/browser/bin/python deploy/surveys/report_check.py build/report-check build/report-check/*.html
	@echo "look at build/report-check/*.png and *.pdf"

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# mkdocs and its themes: 0.1 GB, in an environment of their own.
$(VENV)/.docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --quiet pip==25.3
	$(VENV)/docs/bin/python -m pip install --quiet -c constraints.txt --group docs
	@touch $@

site: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --quiet --strict
	$(VENV)/docs/bin/python deploy/surveys/site.py site
	@echo "open site/index.html"

pages: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.commands docs/reference/commands.md
	$(BIN)/python -m lapilli.deploy.surveys.refusals docs/reference/refusals.md
	$(BIN)/python -m lapilli.deploy.surveys.notebook docs/tutorials/digits.md docs/tutorials/digits.ipynb

adapters: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m frameworks.page --write

coverage: $(VENV)/.lava
	$(BIN)/python -m lapilli.deploy.surveys.coverage docs/coverage.md

accuracy: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.accuracy docs/accuracy.md

runtimes: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.runtimes docs/runtimes.md

targets: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.targets docs/targets.md

sizes: $(VENV)/.installed
	$(BIN)/python -m lapilli.deploy.surveys.sizes docs/sizes.md

train: $(VENV)/.installed
	$(BIN)/python -m lapilli.model.train spikformer model/checkpoints/digits_spikformer.safetensors
	$(BIN)/python -m lapilli.model.train spike-driven model/checkpoints/digits_spike_driven.safetensors

clean:
	rm -rf $(VENV) build dist lapilli-demo
