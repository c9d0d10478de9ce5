# make demo    VQ codecs, VVC and JPEG on eight sample photographs, with a page to look at: some minutes, no data needed
# make test    the tests
# make check   lint, format and types
# make faults  the fault suite, which hurts hvqbench in every way that it promises to survive: half an hour, less with
#              FAULTS=--small
# make bench   how long the parts of the VQ codecs, JPEG and the metrics take, on a machine that does nothing else
# make gate    compare a few codecs with their saved baseline: some minutes; make gate-baseline saves it anew
# make kodak   all codecs on Kodak: hours
# make clean   remove what these made, but for .venv and results
#
# Each makes .venv first if it is not there. It takes the first Python from 3.11 on; name another with
# `make PYTHON=/path/to/python3 ...`.

PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
BIN := .venv/bin
METRICS := psnr,lpips-alex,dists
TOKENIZERS := large rvq f8
VQ := hypervq hypervq-context huffman-vq static-vq fixed-vq hypervq-search huffman-vq-search hypervq-f8-search \
  $(foreach t,$(TOKENIZERS),hypervq-$t hypervq-$t-context huffman-vq-$t static-vq-$t fixed-vq-$t)
SHIPPED := $(VQ) classic

# Fewer points than the codecs have, so that two slow cores are done in minutes: DISTS takes most of the time. At L = 0
# the VQ codecs restore the same pixels, which are judged once.
L_POINTS := 0,0.8,3.2
JPEG_POINTS := 5,30
VVENC_POINTS := 42,47,51
GATE := $(BIN)/hvqbench run --dataset sample --metric psnr --results .cache/gate
DEMO := $(BIN)/hvqbench run --dataset sample --metric $(METRICS) --results demo/results

.PHONY: all .venv demo test check faults bench gate gate-baseline kodak clean
all: test

.venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(PYTHONS) ''; do \
	    test -n "$$python" || { echo "make: no Python from 3.11 on that can make a venv (tried: $(PYTHONS)); install one, or name it with PYTHON=" >&2; exit 1; }; \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; \
	  done; \
	  echo "Making .venv with $$python; torch is large, this takes some minutes."; \
	  $$python -m venv .venv; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

demo: .venv
	@echo "Running hypervq, huffman-vq, fixed-vq, vvenc and jpeg on the data set sample: 12 points, some minutes."
	@echo "What is in demo/results already is not measured again."
	$(DEMO) --codec fixed-vq,huffman-vq,hypervq --points 0
	$(DEMO) --codec huffman-vq,hypervq --points $(L_POINTS)
	$(DEMO) --codec vvenc --points $(VVENC_POINTS)
	$(DEMO) --codec jpeg --points $(JPEG_POINTS)
	@echo
	@echo "All of it:"
	@$(DEMO) --codec fixed-vq,huffman-vq,hypervq,vvenc,jpeg \
	  --points 0,$(L_POINTS),$(VVENC_POINTS),$(JPEG_POINTS) --rerun never
	@$(BIN)/hvqbench report demo --results demo/results --out demo/report >/dev/null
	@echo
	@echo "page     demo/report/report.html: open it in a browser"
	@echo "figure   demo/report/rd-sample.png"
	@echo "tables   demo/report/report.md, and each as .csv beside it"
	@echo "results  demo/results"

test: .venv
	@echo "Running the tests: up to 15 minutes. With HVQBENCH_DATA set, those on real data too."
	@$(BIN)/python -m pytest -q

check: .venv
	@echo "Checking lint, format and types."
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

faults: .venv
	@echo "Running the fault suite: damaged streams, kills, flipped bits, full disks, several writers. FAULTS=--small for a little of it."
	@$(BIN)/python tests/faults $(FAULTS)

bench: .venv
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
	@echo "Removing demo, dist, report and caches; .venv and results stay."
	@rm -rf demo dist report .pytest_cache .mypy_cache .ruff_cache .hypothesis
