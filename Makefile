# make demo   install everything and run the main job on real data: results/demo.md and its figures
# make audit  install everything and look for planted wrong labels: results/audit/digits.html
# make cifar  install everything and train on real photographs: results/cifar-fast.md; hours. FROM=archive: no network
# make test   install everything and run the whole test suite
# make docs   install what the site needs and build it: build/site/index.html
#
# TORCH=cpu behind any of them installs PyTorch without CUDA.
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
LOCK := requirements$(TORCH:%=-%).lock

# One more than there are cores: some tests wait for Slurm, or for a process to notice a signal.
WORKERS = $(shell python3 -c 'import os; print((os.cpu_count() or 1) + 1)')

.PHONY: demo audit cifar docs test check schema params mutants

demo: $(BIN)/cmw
	snakemake results/demo.md
	@echo; cat results/demo.md

audit: $(BIN)/cmw
	snakemake results/audit/digits.html
	@echo; python -c 'import json; print(json.load(open("results/audit/digits/audit.json"))["verdict"])'

cifar: $(BIN)/cmw
	$(if $(FROM),cmw download cifar10 --from $(FROM))
	snakemake --cores all results/cifar-fast.md
	@echo; cat results/cifar-fast.md

test: $(BIN)/cmw
	pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(BIN)/cmw
	ruff check . && ruff format --check . && lint-imports && mypy && codespell
	snakemake --lint && snakefmt --check workflow

# Not part of the gate: the libraries of the site are not in the lock. Needs the network once, for them.
docs: $(BIN)/cmw
	python -c 'import furo, myst_parser' 2> /dev/null || \
	  $(BIN)/uv pip install --quiet --constraint $(LOCK) --editable '.[docs]'
	sphinx-build --fail-on-warning --quiet -c docs . build/site
	@echo build/site/index.html

# Not part of the gate: hours. See docs/faults.md.
mutants: $(BIN)/cmw
	$(BIN)/uv pip install --quiet 'mutmut==3.8.1'
	OMP_NUM_THREADS=1 nice python benchmarks/mutants.py --json benchmarks/results/mutants.json

schema: $(BIN)/cmw
	cmw schema > workflow/schemas/params.schema.json

# The parameter files as `dvc exp run -S` writes them, so that it changes nothing but values.
params: $(BIN)/cmw
	for file in params.yaml params/*.yaml; do \
	  python -c 'import sys; from dvc.utils.hydra import apply_overrides as write; [write(sys.argv[1], []) for _ in range(2)]' $$file; \
	done

$(BIN)/cmw: $(LOCK) pyproject.toml
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	python3 -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode $(TORCH:%=--torch-backend %) -r $(LOCK)
	$(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@
