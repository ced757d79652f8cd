"""Rendering with MuJoCo, without a screen and without CUDA."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import UserError
from ego_ops.synthetic import mjcf
from ego_ops.synthetic.scene import Scene

Floats = NDArray[np.float64]
_PROBE = "import mujoco; mujoco.GLContext(16, 16).make_current()"


@dataclass(frozen=True)
class Shot:
    """One rendered frame."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB, without sensor noise."""
    mask: NDArray[np.bool_]
    """(H, W) where the carried thing is seen."""
    whole: NDArray[np.bool_]
    """(H, W) where it would be seen with nothing in front."""
    hands: NDArray[np.bool_]
    """(H, W) where a hand or arm is seen."""
    depth: NDArray[np.float32] | None
    """(H, W) metres along the optical axis."""

    @property
    def visible_fraction(self) -> float:
        """Share of the carried thing in the picture that nothing hides."""
        return float(self.mask.sum() / max(1, self.whole.sum()))


def intrinsics(size: tuple[int, int], focal: float | None = None) -> NDArray[np.float32]:
    """(3, 3) camera matrix as EgoDex publishes it: the principal point is counted from the
    picture's corner, and lies half a pixel less where pixel centres are at whole numbers.

    Args:
        focal: focal length in pixels; by default that of EgoDex's camera.
    """
    width, height = size
    focal = mjcf.FOCAL * width if focal is None else focal
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


@functools.cache
def load_mujoco() -> Any:
    """Import MuJoCo with a way to render off screen: EGL or, where that fails, OSMesa.

    `MUJOCO_GL`, where set, decides instead.

    Raises:
        UserError: MuJoCo is not installed, or neither library works.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise UserError("rendering the demo needs mujoco: pip install 'egoscaler-ray[demo]'")
    if "mujoco" in sys.modules:
        # How it renders was settled when it was imported.
        loaded: Any = sys.modules["mujoco"]
        if loaded.GLContext.__module__ in ("mujoco.egl", "mujoco.osmesa"):
            return loaded
        raise UserError("mujoco was imported for rendering to a screen: set MUJOCO_GL=egl first")
    given = os.environ.get("MUJOCO_GL")
    for backend in [given] if given else ["egl", "osmesa"]:
        # A failed attempt cannot be undone within a process, so each is tried in another one.
        environment = {**os.environ, "MUJOCO_GL": backend}
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment, capture_output=True, check=False
        )
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            import mujoco

            return mujoco
    raise UserError(
        f"no off-screen rendering ({f'MUJOCO_GL={given}' if given else 'tried EGL and OSMesa'} "
        "failed): install the Debian package libegl1 or libosmesa6"
    )


def render_scene(
    scene: Scene,
    times: Floats,
    size: tuple[int, int] = (960, 540),
    depth: bool = False,
    focal: float | None = None,
    shadow: int | None = None,
) -> Iterator[Shot]:
    """Render `scene` at `times` (seconds), one `Shot` after the other.

    Args:
        size: (width, height) pixels.
        depth: whether to render depth as well.
        focal: focal length in pixels; by default that of EgoDex's camera.
        shadow: side of the shadow map in pixels; by default as fine as suits the size.

    Raises:
        UserError: there is nothing to render with.
    """
    with Studio(scene, size, focal, shadow) as studio:
        yield from studio.shots(times, depth)


class Studio:
    """A scene that is set up to be rendered: textures and meshes are made once.

    Args:
        size: (width, height) pixels.
        focal: focal length in pixels, by default that of EgoDex's camera; the principal point is
            the middle of the picture.
        shadow: side of the shadow map in pixels; by default as fine as suits the size.

    Raises:
        UserError: there is nothing to render with.
    """

    def __init__(
        self,
        scene: Scene,
        size: tuple[int, int],
        focal: float | None = None,
        shadow: int | None = None,
    ):
        self._mujoco = load_mujoco()
        self._scene = scene
        xml, files = mjcf.build(scene, size, focal, shadow)
        self._model = self._mujoco.MjModel.from_xml_string(xml, files)
        self._data = self._mujoco.MjData(self._model)
        self._renderer = self._mujoco.Renderer(self._model, size[1], size[0])
        self._everything, self._alone = self._mujoco.MjvOption(), self._mujoco.MjvOption()
        self._everything.geomgroup[:4] = 1
        self._alone.geomgroup[:] = 0
        self._alone.geomgroup[mjcf.OBJECT] = 1

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self._renderer.close()

    def pictures(self, times: Floats) -> Iterator[NDArray[np.uint8]]:
        """(H, W, 3) RGB at each time, without sensor noise."""
        for _ in self._posed(times):
            yield self._picture()

    def shots(self, times: Floats, depth: bool = False) -> Iterator[Shot]:
        """Pictures with masks, and with depth where asked for."""
        renderer = self._renderer
        for _ in self._posed(times):
            image = self._picture()
            metric = None
            if depth:
                renderer.enable_depth_rendering()
                metric = renderer.render()
                renderer.disable_depth_rendering()
            renderer.enable_segmentation_rendering()
            groups = _groups(self._model, renderer.render())
            renderer.update_scene(self._data, "eye", self._alone)
            whole = _groups(self._model, renderer.render()) == mjcf.OBJECT
            renderer.disable_segmentation_rendering()
            yield Shot(image, groups == mjcf.OBJECT, whole, groups == mjcf.HANDS, metric)

    def _picture(self) -> NDArray[np.uint8]:
        self._renderer.update_scene(self._data, "eye", self._everything)
        image: NDArray[np.uint8] = self._renderer.render()
        return image

    def _posed(self, times: Floats) -> Iterator[None]:
        """Put everything where it is at each time."""
        poses = _poses(self._scene, times)
        slots = [self._model.body(name).mocapid[0] for name in poses]
        stacked = np.stack([pose.translation for pose in poses.values()], axis=1)
        turned = np.stack([mjcf.as_mujoco(pose.rotation) for pose in poses.values()], axis=1)
        for k in range(len(times)):
            self._data.mocap_pos[slots], self._data.mocap_quat[slots] = stacked[k], turned[k]
            self._mujoco.mj_kinematics(self._model, self._data)
            self._mujoco.mj_camlight(self._model, self._data)
            yield


def _poses(scene: Scene, times: Floats) -> dict[str, RigidTransform]:
    """N poses of every mocap body."""
    poses = {"head": scene.camera(times), "object": scene.object(times)}
    for side in scene.arms:
        for joint, frame in scene.joints(times, side).items():
            if not joint.endswith("3"):
                poses[f"{side}/{joint}"] = frame
    return poses


def _groups(model: Any, segmented: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) geom group of each pixel, -1 for none."""
    table = np.append(model.geom_group, -1)
    return np.asarray(table[segmented[..., 0]])


def expose(
    image: NDArray[np.uint8], rng: np.random.Generator, strength: float = 1.5
) -> NDArray[np.uint8]:
    """A rendered image as a camera gives it: darker corners, a soft lens, sensor noise."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    soft = cv2.GaussianBlur(image, (0, 0), 0.5).astype(np.float32)
    lit = soft * (1 - 0.10 * (x**2 + y**2)).astype(np.float32)[..., None]
    noise = rng.standard_normal(image.shape, np.float32) * strength
    return np.clip(lit + noise + 0.5, 0, 255).astype(np.uint8)
