PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: install demo test lint bench clean
install: system $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[demo]'
	touch $@

# The tests need PyTorch without CUDA, which PyPI does not have; where its own index is out of reach
# (or TORCH_INDEX is empty) any build will do. MediaPipe's pins are wrong, so it comes alone.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	[ -z "$(TORCH_INDEX)" ] || $(PIP) --retries 1 --no-deps --index-url $(TORCH_INDEX) torch || true
	$(PIP) -e '.[dev]'
	-$(PIP) --no-deps mediapipe flatbuffers absl-py
	touch $@

# The demo renders through EGL, on a machine without a screen too. Mesa's software driver will do.
EGL := libegl1 libgl1-mesa-dri
.PHONY: system
system:
	@command -v ldconfig >/dev/null || exit 0; ldconfig -p | grep -q 'libEGL\.so\.1' && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && apt-get install -y -q --no-install-recommends $(EGL); \
	else echo "missing system library libEGL.so.1; install it: sudo apt-get install $(EGL)"; exit 1; fi

demo: system $(VENV)/.demo
	$(BIN)/egoscaler demo --out demo

test: install lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadgroup

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

BENCHES := decode index orchestration resume worker_memory curate geometry
bench: install
	for b in $(BENCHES); do $(BIN)/python bench/$$b.py || exit 1; done

clean:
	rm -rf $(VENV) demo build ./*.egg-info
