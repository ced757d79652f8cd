"""Actions of a policy: how the object moves from one step to the next, in its own frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

IDENTITY = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0], np.float64)
"""(9,) the action of an object that stays where it is."""


def actions(position: NDArray[np.floating], rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """Steps of a trajectory, in the object's frame at the start of each step.

    Step t is `T_t^-1 T_(t+1)`: three numbers of translation (metres), then the first and the
    second column of the rotation matrix. The last step is the identity, so that lengths agree.

    Args:
        position: (T, 3) metres, T >= 1.
        rotation: (T, 4) quaternions, scalar-last.

    Returns:
        (T, 9).
    """
    turned = Rotation.from_quat(rotation)
    back = turned[:-1].inv()
    moved = back.apply(np.diff(position, axis=0))
    matrix = (back * turned[1:]).as_matrix()
    steps = np.concatenate([moved, matrix[:, :, 0], matrix[:, :, 1]], axis=1)
    return np.concatenate([steps, IDENTITY[None]])
