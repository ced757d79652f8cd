PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint bench clean
install: system $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The demo renders through EGL, on a machine without a screen too. Mesa's software driver will do.
EGL := libegl1 libgl1-mesa-dri
.PHONY: system
system:
	@command -v ldconfig >/dev/null || exit 0; ldconfig -p | grep -q 'libEGL\.so\.1' && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && apt-get install -y -q --no-install-recommends $(EGL); \
	else echo "missing system library libEGL.so.1; install it: sudo apt-get install $(EGL)"; exit 1; fi

demo: install
	$(BIN)/egoscaler demo --out demo

test: install lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadgroup

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install
	for b in bench/*.py; do $(BIN)/python $$b || exit 1; done

clean:
	rm -rf $(VENV) demo build ./*.egg-info
