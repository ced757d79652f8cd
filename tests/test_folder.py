"""Your own video: the table, the camera files, the pose files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import corpora
from ego_ops.corpora import Skipped, folder
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from ego_ops.pictures import pictures
from tests.video_files import write_video

PINHOLE = {"width": 320, "height": 240, "fx": 300, "fy": 290, "cx": 155, "cy": 118}
TIMES = np.arange(0, 3, 0.1)


def write_table(root: Path, *rows: dict, name: str = "clips.csv") -> None:
    root.mkdir(parents=True, exist_ok=True)
    if name.endswith("jsonl"):
        (root / name).write_text("\n".join(json.dumps(row) for row in rows))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(root / name, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def film(root: Path, name: str = "a.mp4", size: tuple[int, int] = (320, 240)) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    write_video(root / name, np.arange(60) / 20, draw=lambda _: picture)


def row(**more: object) -> dict:
    return {"path": "a.mp4", "start": 0.5, "end": 2.5, "text": "Take the cup.", "fov": 60} | more


def only(root: Path) -> list:
    return list(corpora.get("folder").index(str(root)))


@pytest.mark.parametrize("name", ["clips.csv", "clips.jsonl"])
def test_a_table_becomes_clips(tmp_path, name):
    film(tmp_path)
    film(tmp_path, "kitchen/b.mp4")
    write_table(
        tmp_path,
        row(object="cup", verb="take"),
        row(path="kitchen/b.mp4", start="0:01", end="00:00:02.500", text="Put it  down"),
        name=name,
    )
    first, second = only(tmp_path)
    assert (first.video_uid, first.t_start, first.t_end) == ("a", 0.5, 2.5)
    assert (first.object, first.verb, first.narration) == ("cup", "take", "Take the cup.")
    assert (second.video_path, second.t_start, second.t_end) == ("kitchen/b.mp4", 1.0, 2.5)
    assert second.narration == "Put it down"
    assert first.clip_id != second.clip_id


def test_an_id_keeps_a_clip_whose_text_is_mended(tmp_path):
    film(tmp_path)
    found = []
    for text in ("Tkae the cup", "Take the cup"):
        write_table(tmp_path, row(id="7", text=text), row(text=text))
        found.append([clip.clip_id for clip in only(tmp_path)])
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_field_of_view_gives_the_pinhole(tmp_path):
    film(tmp_path)
    write_table(tmp_path, row(fov=90))
    (clip,) = only(tmp_path)
    camera = folder.recording(clip).camera
    edges = camera.project(np.array([[-1.0, 0, 1], [1, 0, 1]]))
    assert np.allclose(edges[:, 0], [-0.5, 319.5])  # the picture's borders
    assert (camera.width, camera.height) == (320, 240)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("opencv", [-0.25, 0.08, 0.001, -0.002, 0.01]),
        ("opencv_fisheye", [-0.03, 0.01, -0.004, 0.001]),
    ],
)
def test_a_calibrated_lens_is_undone(tmp_path, model, distortion):
    """A grid drawn through OpenCV's own projection lies straight in the rectified pictures."""
    camera = np.array([[300.0, 0, 155], [0, 290, 118], [0, 0, 1]])
    grid = np.stack(np.meshgrid([-0.3, 0.0, 0.25], [-0.2, 0.1], [1.0]), -1).reshape(-1, 1, 3)
    project = cv2.projectPoints if model == "opencv" else cv2.fisheye.projectPoints
    pixels, _ = project(grid, np.zeros(3), np.zeros(3), camera, np.array(distortion))
    picture = np.full((240, 320, 3), 30, np.uint8)
    for x, y in pixels.reshape(-1, 2):
        cv2.circle(picture, (round(x * 16), round(y * 16)), 5 * 16, (255,) * 3, -1, cv2.LINE_AA, 4)
    write_video(tmp_path / "a.mp4", np.arange(60) / 20, draw=lambda _: picture)
    (tmp_path / "camera.json").write_text(
        json.dumps(PINHOLE | {"model": model, "distortion": distortion})
    )
    write_table(tmp_path, row(fov=""))
    (clip,) = only(tmp_path)
    recording = folder.recording(clip)
    frames, full = pictures(clip, recording, (0.5, 0.6), fps=20, max_side=320)
    gray = cv2.cvtColor(frames.images[0], cv2.COLOR_RGB2GRAY)
    _, _, _, middles = cv2.connectedComponentsWithStats((gray > 140).astype(np.uint8))
    expected = full.project(grid.reshape(-1, 3))
    gaps = np.linalg.norm(expected[:, None] - middles[None, 1:], axis=-1).min(1)
    assert len(middles) == 7
    assert gaps.max() < 0.5
    assert np.abs(pixels.reshape(-1, 2) - expected).max() > 2  # there was something to undo


def true_path() -> RigidTransform:
    turn = Rotation.from_rotvec(np.outer(np.sin(TIMES), [0.1, -0.3, 0.2]) + [2.0, 0.1, 0])
    return RigidTransform.from_components(np.outer(np.cos(TIMES), [0.1, 0.05, 0.2]), turn)


@pytest.mark.parametrize("form", ["tum", "csv"])
@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_poses_in_either_form_and_axes(tmp_path, form, axes):
    film(tmp_path)
    truth = true_path()
    flip = np.eye(4) if axes == "opencv" else np.diag([1.0, -1, -1, 1])
    stored = RigidTransform.from_matrix(truth.as_matrix() @ flip)
    table = np.column_stack([TIMES, stored.translation, stored.rotation.as_quat()])
    if form == "tum":
        np.savetxt(tmp_path / "path.txt", table, header="time tx ty tz qx qy qz qw")
    else:
        names = ["qw", "timestamp", "frame", "x", "y", "z", "qx", "qy", "qz"]
        mixed = np.column_stack([table[:, 7], table[:, 0], np.arange(len(table)), table[:, 1:7]])
        np.savetxt(
            tmp_path / "path.txt", mixed, header=", ".join(names), delimiter=", ", comments=""
        )
    write_table(tmp_path, row(poses="path.txt", pose_axes=axes))
    (clip,) = only(tmp_path)
    path = folder.recording(clip).path
    assert path is not None
    found = path.at(TIMES)
    assert np.abs(found.as_matrix() - truth.as_matrix()).max() < 1e-9


def test_inertial_readings(tmp_path):
    film(tmp_path)
    (tmp_path / "imu.csv").write_text(
        "time,accl_x,accl_y,accl_z,gyro_x,gyro_y,gyro_z\n0,1,2,3,4,5,6\n0.01,1,2,9.8,0,0,0.5\n"
    )
    write_table(tmp_path, row(imu="imu.csv"))
    (clip,) = only(tmp_path)
    imu = folder.recording(clip).imu
    assert imu is not None
    assert imu.gyro[0].tolist() == [4, 5, 6]
    assert imu.accel[1].tolist() == [1, 2, 9.8]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"path": "b.mp4"}, "no_video", "b.mp4 is missing"),
        ({"path": "../a.mp4"}, "bad_row", "not within the folder"),
        ({"text": "  "}, "no_description", "empty"),
        ({"start": "soon"}, "bad_interval", "start is 'soon'"),
        ({"end": ""}, "bad_interval", "end is ''"),
        ({"end": "nan"}, "bad_interval", "end is 'nan'"),
        ({"start": 2.5, "end": 0.5}, "bad_interval", "wanted 0 <= start < end"),
        ({"start": -1}, "bad_interval", "wanted 0 <= start < end"),
        ({"end": 3600}, "bad_interval", "60 s long"),
        ({"fov": "wide"}, "no_intrinsics", "fov is 'wide'"),
        ({"fov": 200}, "no_intrinsics", "5 to 175"),
        ({"fov": ""}, "no_intrinsics", "camera.json"),
        ({"poses": "p.txt"}, "no_poses", "p.txt is missing"),
        ({"intrinsics": "c.json"}, "no_intrinsics", "c.json is missing"),
        ({"pose_axes": "blender"}, "bad_row", "opencv, opengl"),
    ],
)
def test_a_bad_line_is_left_out_and_the_next_is_not(tmp_path, change, reason, words):
    film(tmp_path)
    write_table(tmp_path, row(**change), row())
    skipped, clip = only(tmp_path)
    assert isinstance(skipped, Skipped)
    assert skipped.reason == reason
    assert words in skipped.detail
    assert skipped.where == "clips.csv, line 2"
    assert clip.video_uid == "a"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,start,end\n", "lacks the column text"),
        ("path,start,end,text,pose\n", "column pose unknown"),
        ("", "lacks the column"),
    ],
)
def test_a_table_that_is_none(tmp_path, content, words):
    (tmp_path / "clips.csv").write_text(content)
    with pytest.raises(UserError, match=words):
        only(tmp_path)


def test_no_table_or_two(tmp_path):
    with pytest.raises(UserError, match=r"no clips\.csv or clips\.jsonl"):
        only(tmp_path)
    (tmp_path / "clips.csv").write_text("")
    (tmp_path / "clips.jsonl").write_text("")
    with pytest.raises(UserError, match="both, keep one"):
        only(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        only(tmp_path / "nowhere")
    (tmp_path / "clips.csv").unlink()
    (tmp_path / "clips.jsonl").write_text('{"path": "a.mp4"')
    with pytest.raises(UserError, match="cannot be read"):
        only(tmp_path)
    (tmp_path / "clips.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        only(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps(PINHOLE | {"fx": None}), "fx is None"),
        (json.dumps(PINHOLE | {"cx": 900}), "principal point"),
        (json.dumps(PINHOLE | {"fx": 1}), "focal length"),
        (json.dumps(PINHOLE | {"model": "omni"}), "'omni' is not known"),
        (json.dumps(PINHOLE | {"model": "opencv"}), "distortion is None"),
        (json.dumps(PINHOLE | {"model": "opencv", "distortion": [0.1]}), "4 or 5 or 8"),
        (json.dumps(PINHOLE | {"model": "opencv", "distortion": [float("nan")] * 4}), "finite"),
    ],
)
def test_a_camera_file_that_is_none(tmp_path, content, words):
    film(tmp_path)
    (tmp_path / "camera.json").write_text(content)
    write_table(tmp_path, row(fov=""))
    (clip,) = only(tmp_path)
    with pytest.raises(AnnotationError, match=words) as caught:
        folder.recording(clip)
    assert "camera.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("0 0 0 0 0 0 0 1\n", "two poses"),
        ("0 0 0 0 0 0 0 1\n1 0 0\n", "8 numbers a line"),
        ("0 0 0 0 0 0 0 1\n0 0 0 0 0 0 0 1\n", "do not increase"),
        ("0 0 0 0 0 0 0 1\n1 0 0 0 1 1 1 1\n", "unit quaternions"),
        ("0 0 0 0 0 0 0 1\n1 nan 0 0 0 0 0 1\n", "finite"),
        ("time,x,y,z,qx,qy,qz\n0,0,0,0,0,0,0\n", "no column 'qw'"),
    ],
)
def test_a_pose_file_that_is_none(tmp_path, content, words):
    film(tmp_path)
    (tmp_path / "path.txt").write_text(content)
    write_table(tmp_path, row(poses="path.txt"))
    (clip,) = only(tmp_path)
    with pytest.raises(AnnotationError, match=words) as caught:
        folder.recording(clip)
    assert "path.txt" in str(caught.value)
    (tmp_path / "path.txt").unlink()
    with pytest.raises(MissingFileError, match=r"path\.txt"):
        folder.recording(clip)
