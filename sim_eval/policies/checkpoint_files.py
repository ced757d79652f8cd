"""Whether a checkpoint fits a suite, from its `config.json`: nothing of it is loaded."""

from __future__ import annotations

import numpy as np

from ego_ops.errors import UserError
from sim_eval.policies import contents
from sim_eval.policies.names import Named
from sim_eval.suite import Suite

_POSE = 9
"""Numbers of a shard's states, T_camera_object."""


def check(policy: Named, suite: Suite) -> list[str]:
    """See `sim_eval.policies.check`."""
    head = contents.config(policy.place)
    about = head["sources"][policy.compute.source]
    acts = f"--policy {policy.name}: as source {policy.compute.source} it"
    size, notes = about["state_size"], []
    if size == _POSE < suite.state_size and suite.intrinsics is not None:
        notes.append(f"{policy.name}: trained on things that move, it is told the gripper's pose")
    elif size != suite.state_size:
        raise UserError(
            f"{acts} is told {size} numbers of state, suite {suite.name} has {suite.state_size}; "
            "take a policy of that robot, or another --source"
        )
    try:
        suite.padded(np.zeros((1, about["action_size"])))
    except UserError as error:
        raise UserError(f"{acts} gives actions that do not fit: {error}") from error
    shown = cameras(policy, suite)
    sees = ", ".join(head["cameras"])
    if not shown:
        raise UserError(
            f"--policy {policy.name}: sees by {sees}, suite {suite.name} has "
            f"{', '.join(suite.cameras)}: no camera of both"
        )
    missing = [camera for camera in head["cameras"] if camera not in shown]
    unused = [camera for camera in suite.cameras if camera not in shown]
    if missing:
        notes.append(f"{policy.name}: trained with {sees}; {suite.name} has no {_list(missing)}")
    if unused:
        notes.append(f"{policy.name}: is not shown {_list(unused)}, which it was not trained with")
    return notes


def cameras(policy: Named, suite: Suite) -> list[str]:
    """Those of the suite that the policy knows, in the order that it was trained with."""
    return [
        camera for camera in contents.config(policy.place)["cameras"] if camera in suite.cameras
    ]


def _list(cameras: list[str]) -> str:
    return " and ".join(cameras)
