"""What a process that may die was doing: in a file that outlives it.

Simulators crash with a signal, or hang in native code that lets no Python thread run. So what is
done next is written down before it is done, and a timer of the interpreter's own (faulthandler)
ends a process that is stuck. Whoever reads the file afterwards knows the episode that it was.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from sim_eval.suite import Environment, Floats, Image, Observation

_ID, _DOING = 16, 64  # bytes: an episode's id, and what is done in it
_IDLE = b" " * (_ID + _DOING)
_PATIENCE_S = 30.0
_OFTEN = 8
"""The timer is set anew so often in the time that it runs, and may end by one such part early."""


class Journal:
    """Of one process.

    Args:
        name: of the file, in the machine's folder for such.
        timeout: seconds after which something that is being done counts as stuck: the process ends.
    """

    def __init__(self, name: str, timeout: float):
        self._timeout, self._armed = timeout, 0.0
        self._file = open(_path(name), "wb", buffering=0)  # noqa: SIM115  open as long as the process is
        self._file.write(_IDLE)
        faulthandler.enable(self._file)  # a signal leaves its name behind what was being done

    @contextmanager
    def doing(self, episode: str, what: str) -> Iterator[None]:
        """For the length of something that may not return. `rest` is to be called after it, before
        anything else is waited for."""
        now = time.monotonic()
        # The timer is a thread, whose start costs as much as a step of a simple simulator.
        if now - self._armed > self._timeout / _OFTEN:
            self._armed = now
            faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._file)
        self._write(f"{episode:{_ID}.{_ID}}{what:{_DOING}.{_DOING}}".encode())
        try:
            yield
        finally:
            self._write(_IDLE)

    def remove(self) -> None:
        """The process ends as it should."""
        self.rest()
        os.unlink(self._file.name)

    def rest(self) -> None:
        """Nothing is done for now."""
        if self._armed:
            faulthandler.cancel_dump_traceback_later()
            self._armed = 0.0

    def _write(self, text: bytes) -> None:
        os.pwrite(self._file.fileno(), text, 0)


class Death(NamedTuple):
    """How a process ended."""

    episode: str
    """The id of the one that was at work, or "" if none was."""
    what: str
    """One line: what was done, and what ended it if that is known."""


def post_mortem(name: str) -> Death:
    """Read the journal of a process that has ended, and remove it."""
    path = _path(name)
    try:
        with open(path, "rb") as file:
            doing, trace = file.read(len(_IDLE)), file.read()
        os.unlink(path)
    except FileNotFoundError:
        return Death("", "it left no word")
    text = doing.decode(errors="replace")
    episode, what = text[:_ID].strip(), text[_ID:].strip()
    first = trace.decode(errors="replace").partition("\n")[0]
    if first.startswith("Timeout"):
        why = "stuck"
    elif first.startswith("Fatal Python error: "):
        why = first.removeprefix("Fatal Python error: ")
    else:
        why = "its process ended or was killed"
    return Death(episode, f"{what}: {why}" if what else why)


def last_words(name: str, node: str) -> Death:
    """`post_mortem` where the process was, if that machine is still there.

    Args:
        node: Ray's id of it; "" if it is this one or not known.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if node in ("", ray.get_runtime_context().get_node_id()):
        return post_mortem(name)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(post_mortem).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    try:
        return ray.get(look.remote(name), timeout=_PATIENCE_S)
    except RayError:
        return Death("", "its node was lost")


def _path(name: str) -> str:
    return os.path.join(tempfile.gettempdir(), name)


class Watched:
    """An environment that writes down what it does. Its attribute `episode` is the id."""

    episode = ""

    def __init__(self, environment: Environment, journal: Journal):
        self._environment, self._journal = environment, journal
        self._steps = 0

    def reset(self, task: str, seed: int) -> None:
        self._steps = 0
        with self._journal.doing(self.episode, "reset"):
            self._environment.reset(task, seed)

    def observe(self) -> Observation:
        with self._doing("observation"):
            return self._environment.observe()

    def picture(self) -> Image:
        with self._doing("picture"):
            return self._environment.picture()

    def step(self, action: Floats) -> bool:
        with self._doing("step"):
            solved = self._environment.step(action)
        self._steps += 1
        return solved

    def state(self) -> bytes:
        return self._environment.state()

    def expert(self) -> Floats:
        with self._doing("expert's action"):
            return self._environment.expert()

    def close(self) -> None:
        with self._doing("end"):
            self._environment.close()

    def _doing(self, what: str) -> AbstractContextManager[None]:
        return self._journal.doing(self.episode, f"{what} at step {self._steps}")
