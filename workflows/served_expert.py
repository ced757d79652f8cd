"""The tabletop's script as a policy that is served: it is sent the simulation's state.

A message has `simulation/task` (text), `simulation/seed` (whole number) and `simulation/state` (the
bytes of `TabletopEnvironment.state`, as uint8). The script is played from there in a simulation of
the server's own. That the client's goes on in the same way, to the bit, follows from MuJoCo: both
begin with all that its integrator reads, and do the same actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ego_ops.errors import UserError
from ego_ops.synthetic.render import load_mujoco
from robot.policy import Answer, Floats, PolicyError, Request
from robot.protocol import KEY
from sim_eval.suites.tabletop.environment import TabletopEnvironment
from sim_eval.suites.tabletop.tasks import FPS

HORIZON, _SIZE = 16, 10
_TASK, _SEED, _STATE = "simulation/task", "simulation/seed", "simulation/state"
_MOST_SEED = (1 << 63) - 1


class ExpertPolicy:
    """See `robot.policy.Policy`. Chunks are (16, 10). A prefix is taken for what is done meanwhile,
    and the script for what follows it."""

    batch = 1  # one simulation after another: together they would all be as late as the last

    def __init__(self) -> None:
        self.metadata: Mapping[str, Any] = {
            "policy": "expert", "suite": "tabletop", "fps": FPS, "horizon": HORIZON,
            "action_size": _SIZE, "needs": [_TASK, _SEED, _STATE], KEY: {"features": ["prefix"]},
        }  # fmt: skip
        self._playing: dict[str, tuple[int, TabletopEnvironment]] = {}
        self._warned = False
        load_mujoco().set_mju_user_warning(self._warn)  # else into a file, for each hostile state

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        """See `Policy.infer`."""
        return [self._answer(request) for request in requests]

    def forget(self, client: str) -> None:
        """Nothing is kept of any."""

    def close(self) -> None:
        """Let go of the simulations."""
        load_mujoco().set_mju_user_warning(None)
        for _, environment in self._playing.values():
            environment.close()
        self._playing.clear()

    def _answer(self, request: Request) -> Answer | PolicyError:
        try:
            with np.errstate(all="ignore"):  # of states that nobody meant
                environment = self._at(request.observation)
                actions = self._played(environment, _prefix(request))
        except PolicyError as error:
            return error
        except UserError as error:
            return PolicyError(str(error), "bad_request")
        return Answer(actions)

    def _at(self, message: Mapping[str, Any]) -> TabletopEnvironment:
        """A simulation of the message's moment."""
        task, seed, state = message.get(_TASK), message.get(_SEED), message.get(_STATE)
        if isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1:
            state = state.tobytes()
        if not isinstance(task, str) or not isinstance(state, bytes):
            raise PolicyError(
                f"the script needs {_TASK} (text), {_SEED} (a whole number) and {_STATE} (bytes of "
                f"uint8): send it the simulation of the tabletop",
                "bad_request",
            )
        seed = int(seed) if isinstance(seed, int | np.integer) else -1
        if not 0 <= seed <= _MOST_SEED:
            raise PolicyError(f"{_SEED}: a whole number from 0 up", "bad_request")
        known = self._playing.get(task)
        if known is None or known[0] != seed:
            environment = known[1] if known else TabletopEnvironment(())
            environment.reset(task, seed)
            self._playing[task] = known = seed, environment
        known[1].data.warning.number[:] = 0  # MuJoCo warns of everything once
        self._warned = False
        known[1].restore(state)
        return known[1]

    def _played(self, environment: TabletopEnvironment, prefix: Floats) -> Floats:
        actions = np.empty((HORIZON, _SIZE))
        for step in range(HORIZON):
            actions[step] = prefix[step] if step < len(prefix) else environment.expert()
            if self._warned or not np.isfinite(actions[step]).all():
                raise PolicyError(f"{_STATE}: the simulation diverges from there", "bad_request")
            environment.step(actions[step])
        return actions

    def _warn(self, text: str) -> None:
        """MuJoCo found numbers that it cannot go on with, and has begun the episode anew."""
        self._warned = True


def _prefix(request: Request) -> Floats:
    """What will have been done before the answer arrives, (D, 10)."""
    given = request.prefix if request.prefix is not None else np.empty((0, _SIZE))
    done = np.asarray(given, np.float64)[: max(0, min(request.delay, HORIZON))]
    if done.ndim != 2 or done.shape[1] != _SIZE or not np.isfinite(done).all():
        raise PolicyError(f"prefix: finite actions of {_SIZE} numbers", "bad_request")
    return done
