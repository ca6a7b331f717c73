# Everything here installs what it needs into .venv, the first time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test check bench docs golden clean

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(VENV)/.installed ## the main job: instil, measure, ask, compare, write up
	$(BIN)/gnothi run preferences --out runs/demo
	@echo "open runs/demo/report.html"

test: $(VENV)/.installed ## the quick suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

check: $(VENV)/.installed ## style, types and the direction of imports
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/architecture

bench: $(VENV)/.installed ## all benchmarks; writes docs/benchmarks.md
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed ## every block of code in the docs runs, every link leads somewhere
	$(BIN)/python -m pytest tests/docs

golden: $(VENV)/.installed ## rewrite the golden files; review the diff
	GNOTHI_GOLDEN=write $(BIN)/python -m pytest tests -k golden

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
