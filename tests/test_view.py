"""The Rerun recording, read back with Rerun's own reader."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from ego_ops.verdict import Verdict
from tests import filmed
from workflows.view import TIMELINE, ViewConfig, find, run


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    """Four clips: three with trajectories, one of them without pictures, and a rejected one."""
    found = filmed.trajectory()
    return filmed.write_run(
        tmp_path_factory.mktemp("run"),
        {
            "lost/0": found,
            "lost/1": filmed.shifted(found, 0.01),
            "lost/2": Verdict("rejected", "no_object", "nothing is near a hand"),
            "lost/blind": replace(found, frames=[b"\xff\xd8"] * len(filmed.STEPS)),
        },
    )


def clip_id(uid: str) -> str:
    return filmed.make_clip(Path(), uid, "").clip_id


class Read:
    """The first recording of a file: components by entity, in the order of time."""

    def __init__(self, path: Path):
        from rerun.chunk import RrdReader

        self.reader = RrdReader(path)
        self.chunks = [(chunk, chunk.to_record_batch()) for chunk in self.reader.stream()]
        self.entities = {chunk.entity_path for chunk, _ in self.chunks}

    def get(self, entity: str, component: str) -> list:
        """Values of one component: one a row, in the order of the time line."""
        found = []
        for chunk, batch in self.chunks:
            if chunk.entity_path == entity and component in batch.schema.names:
                rows = batch.column(component).to_pylist()
                times = [0.0] * len(rows) if chunk.is_static else self._seconds(batch)
                found += list(zip(times, rows, strict=True))
        return [value for _, value in sorted(found, key=lambda pair: pair[0])]

    def seconds(self, entity: str) -> np.ndarray:
        batches = [b for c, b in self.chunks if c.entity_path == entity and not c.is_static]
        return np.sort(np.concatenate([self._seconds(batch) for batch in batches]))

    @staticmethod
    def _seconds(batch) -> np.ndarray:
        return np.array(batch.column(TIMELINE).cast("int64").to_pylist()) / 1e9

    def poses(self, entity: str) -> RigidTransform:
        place = np.array(self.get(entity, "Transform3D:translation")).squeeze(1)
        turn = np.array(self.get(entity, "Transform3D:quaternion")).squeeze(1)
        return RigidTransform.from_components(place, Rotation.from_quat(turn))


@pytest.fixture(scope="module")
def recording(shards, tmp_path_factory) -> Read:
    out = tmp_path_factory.mktemp("rrd") / "new" / "clip.rrd"
    assert run(ViewConfig("lost/0", shards, out)) == out
    return Read(out)


def test_the_recording_holds_the_clip(recording):
    [entry] = recording.reader.recordings()
    assert entry.recording_id == clip_id("lost/0")
    assert len(recording.reader.blueprints()) == 1
    moving = {"/world/object", "/world/camera", "/world/camera/image", "/plots/position"}
    paths = {"/world/object_path", "/world/camera_path", "/about", "/world"}
    assert moving | paths <= recording.entities
    for entity in moving:
        np.testing.assert_allclose(recording.seconds(entity), filmed.STEPS, atol=1e-9)
    [[about]] = recording.get("/about", "TextDocument:text")
    assert "Move the disc." in about
    assert "object_points | 31" in about


def test_poses_are_those_of_the_film(recording):
    first = filmed.camera(filmed.STEPS)[0].inv()
    camera = first * filmed.camera(filmed.STEPS)
    off = camera.inv() * recording.poses("/world/camera")
    assert np.abs(off.as_matrix() - np.eye(4)).max() < 1e-5
    moved = filmed.thing(filmed.STEPS) * filmed.thing(filmed.STEPS)[0].inv()
    place = first.apply(moved.apply(filmed.REST))
    found = recording.poses("/world/object")
    np.testing.assert_allclose(found.translation, place, atol=1e-5)
    turned = found.rotation * found.rotation[0].inv()
    true = first.rotation * moved.rotation * first.rotation.inv()
    assert (turned.inv() * true).magnitude().max() < 1e-5
    [[strip]] = recording.get("/world/object_path", "LineStrips3D:strips")
    np.testing.assert_allclose(strip, place, atol=1e-5)


def test_what_is_recorded_projects_onto_what_was_filmed(recording):
    """Through the recorded pinhole and poses the object lands on the disc in the pictures."""
    [matrix] = recording.get("/world/camera/image", "Pinhole:image_from_camera")
    k = np.array(matrix).reshape(3, 3).T  # columns first
    [[size]] = recording.get("/world/camera/image", "Pinhole:resolution")
    assert size == [224, 224]
    local = recording.poses("/world/camera").inv() * recording.poses("/world/object")
    image = local.translation @ k.T
    pixels = image[:, :2] / image[:, 2:]
    blobs = recording.get("/world/camera/image", "EncodedImage:blob")
    assert len(blobs) == len(filmed.STEPS)
    for pixel, [blob] in zip(pixels, blobs, strict=True):
        picture = cv2.imdecode(np.array(blob, np.uint8), 1)
        assert np.abs(filmed.middle(picture) - pixel).max() < 0.5


def test_a_clip_without_pictures(shards, tmp_path):
    out = run(ViewConfig("lost/blind", shards, tmp_path / "clip.rrd"))
    assert "/world/object" in Read(out).entities


def test_clips_by_id_by_its_beginning_and_by_video(shards):
    wanted = clip_id("lost/1")
    others = {clip_id(uid) for uid in ("lost/0", "lost/2", "lost/blind")}
    length = next(n for n in range(1, 17) if not any(o.startswith(wanted[:n]) for o in others))
    for name in (wanted, wanted[:length], "lost/1"):
        assert find(shards, name)["clip_id"] == wanted


def test_several_clips_of_one_beginning(tmp_path):
    uids = [f"lost/{i}" for i in range(40)]
    end = Verdict("rejected", "no_object", "none")
    url = filmed.write_run(tmp_path, dict.fromkeys(uids, end))
    digit = clip_id(uids[0])[0]
    same = sum(clip_id(uid).startswith(digit) for uid in uids)
    if same == 1:
        pytest.fail("the ids of the fixture have no beginning in common; take more clips")
    with pytest.raises(UserError, match=f"'{digit}' means {same} clips: "):
        find(url, digit)


def test_what_ends_in_one_line(shards, tmp_path):
    with pytest.raises(UserError, match=r"no clip 'lost/01' among 4; close: lost/") as caught:
        find(shards, "lost/01")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no clip '' among 4"):
        find(shards, "")
    with pytest.raises(UserError, match="nothing is committed there"):
        find(str(tmp_path / "none"), "lost/0")
    with pytest.raises(UserError, match=r"rejected, no_object \(nothing is near a hand\)"):
        run(ViewConfig("lost/2", shards, tmp_path / "clip.rrd"))
    with pytest.raises(UserError, match=r"--out .*cannot be written"):
        run(ViewConfig("lost/0", shards, tmp_path))


def test_the_extra_is_named_where_it_is_missing():
    code = (
        "import sys; sys.modules['rerun'] = None\n"
        "from workflows import view; from ego_ops.errors import UserError\n"
        "try: view.run(view.ViewConfig('x'))\n"
        "except UserError as error: print(error)"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "view needs rerun-sdk: pip install 'egoscaler-ray[view]'"
