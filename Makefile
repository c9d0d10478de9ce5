# make demo    VQ codecs, VVC and JPEG on five sample photographs, with a page to look at: some minutes, no data needed
# make test    the tests
# make check   lint, format, types and layers
# make docs    the documentation as a web site, in site/
# make faults  the fault suite, which hurts hvqbench in every way that it promises to survive: half an hour, less with
#              FAULTS=--small
# make bench   how long the parts of the VQ codecs, JPEG and the metrics take, on a machine that does nothing else
# make gate    compare a few codecs with their saved baseline: some minutes; make gate-baseline saves it anew
# make kodak   all codecs on Kodak: hours
# make clean   remove what these made, but for .venv and results
#
# Each makes .venv first if it is not there: what hvqbench runs with, and for test, check, bench and docs what it is
# developed with as well. It takes the first Python from 3.11 on; name another with `make PYTHON=/path/to/python3 ...`.
# `make CPU=1 ...` installs PyTorch without CUDA: 5 GB less on Linux.

PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
BIN := .venv/bin
TOKENIZERS := large rvq f8
VQ := hypervq hypervq-context huffman-vq static-vq fixed-vq hypervq-search huffman-vq-search hypervq-f8-search \
  $(foreach t,$(TOKENIZERS),hypervq-$t hypervq-$t-context huffman-vq-$t static-vq-$t fixed-vq-$t)
SHIPPED := $(VQ) classic

# Fewer points, images and metrics than there are, the cheap codecs first, in one run: two idle cores are done in
# minutes, and what is left is of all of it. The search for indices takes most of the time; at L = 0 the VQ codecs
# restore the same pixels, which are judged once.
DEMO := jpeg@5,30 vvenc@37,42,47,51 fixed-vq@0 huffman-vq@0,1.6 hypervq@0,1.6 hypervq-search@0,1.6
GATE := $(BIN)/hvqbench run --dataset sample --metric psnr --results .cache/gate
# Of one version pip takes the wheel with a suffix, 2.0+cpu. An index that does not answer would be tried anew for each
# package, so it is asked once, as the shell runs the recipe: only then is there a Python.
CPU_INDEX := https://download.pytorch.org/whl/cpu
ANSWERS := $(BIN)/python -c 'import urllib.request; urllib.request.urlopen("$(CPU_INDEX)/torch/", timeout=10)' 2>/dev/null
NO_ANSWER := make: $(CPU_INDEX) is not reachable: installing PyTorch with CUDA, 3 GB to download; to have it without, interrupt, install torch and torchvision into .venv by other means and run make again
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
  $(if $(CPU),$$($(ANSWERS) && echo --extra-index-url $(CPU_INDEX) || echo '$(NO_ANSWER)' >&2))

.PHONY: all .venv dev demo test check docs faults bench gate gate-baseline kodak clean
all: test

.venv: .venv/.installed
dev: .venv/.dev

.venv/.installed: pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(PYTHONS) ''; do \
	    test -n "$$python" || { echo "make: no Python from 3.11 on that can make a venv (tried: $(PYTHONS)); install one, or name it with PYTHON=" >&2; exit 1; }; \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; \
	  done; \
	  echo "Making .venv with $$python: PyTorch is large, this takes some minutes."; \
	  $$python -m venv .venv; \
	fi
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) -e '.[dev,docs]'
	@touch $@

demo: .venv
	@echo "Running $(words $(DEMO)) codecs on five photographs of the data set sample: some minutes."
	@echo "What is in demo/results already is not measured again."
	@$(BIN)/hvqbench run --dataset sample --limit 5 --metric psnr,lpips-alex --results demo/results \
	  $(addprefix --codec ,$(DEMO))
	@$(BIN)/hvqbench report demo --results demo/results --out demo/report >/dev/null
	@echo
	@echo "page     demo/report/report.html: open it in a browser"
	@echo "figure   demo/report/rd-sample.png"
	@echo "tables   demo/report/report.md, and each as .csv beside it"
	@echo "results  demo/results"
	@echo "DISTS too: $(BIN)/hvqbench score --metric dists --results demo/results"

test: dev
	@echo "Running the tests: up to 15 minutes. With HVQBENCH_DATA set, those on real data too."
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: dev
	@echo "Checking lint, format, types and layers."
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: dev
	@echo "Writing the documentation to site/; a dead link is an error."
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "page     site/index.html: open it in a browser"

faults: dev
	@echo "Running the fault suite: damaged streams, kills, flipped bits, full disks, several writers. FAULTS=--small for a little of it."
	@$(BIN)/python tests/faults $(FAULTS)

bench: dev
	@echo "Timing the parts of the VQ codecs, JPEG and the metrics: some minutes. Let the machine do nothing else."
	@$(BIN)/python -m pytest -q tests/benchmarks/bench_*.py \
	  --benchmark-columns=median,iqr,min,rounds --benchmark-sort=fullname --benchmark-time-unit=ms

# No network's encoder is held to its bytes: on another kind of processor it may choose another index.
gate: .venv
	@$(BIN)/hvqbench check --baseline reports/baselines/sample.parquet --tolerance 0%

gate-baseline: .venv
	@rm -rf .cache/gate
	$(GATE) --codec fixed-vq --points 0
	$(GATE) --codec huffman-vq,hypervq --points 0,3.2
	$(GATE) --codec jpeg --points 10,30,50
	$(BIN)/hvqbench baseline save sample --results .cache/gate --exact jpeg

kodak: .venv
	@echo "Running $(SHIPPED) on Kodak into results. To stop is safe: make kodak goes on where it stopped."
	$(BIN)/hvqbench run $(addprefix --codec ,$(SHIPPED)) --dataset kodak --results results
	$(BIN)/hvqbench report --results results --out report --html

clean:
	@echo "Removing demo, dist, report, site and caches; .venv and results stay."
	@rm -rf demo dist report site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
