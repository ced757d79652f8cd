"""The report: errors against known truth, what is drawn where, and the page itself."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import report
from ego_ops.camera import PosePath
from ego_ops.errors import UserError
from ego_ops.report import figures, measure, strip
from ego_ops.report.survey import Seen, Survey, choose
from ego_ops.storage import store
from ego_ops.verdict import Verdict
from tests import filmed
from workflows.report import ReportConfig, run

AMBER, CYAN = np.array([255, 176, 0]), np.array([0, 229, 255])


def truth() -> measure.Truth:
    times = np.arange(61) / 30
    return measure.Truth(
        PosePath(times, filmed.thing(times)),
        PosePath(times, filmed.camera(times)),
        filmed.SURFACE,
        filmed.CONTACT,
        filmed.RELEASE,
    )


def test_a_perfect_trajectory_has_no_error():
    found = measure.compare(filmed.trajectory(), truth()).figures
    for name, value in found.items():
        if name.startswith(("position", "rotation")):
            assert abs(value) < 1e-7, name
    assert found["motion_scale"] == pytest.approx(1)
    assert found["onset_s"] == pytest.approx(0.1)
    # The camera sways between the truth's samples, which linear interpolation cuts short.
    assert found["camera_ate_m"] < 1e-4
    assert found["camera_rotation_rad"] < 1e-4
    assert set(found) == set(measure.FIGURES)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_neither_the_world_nor_the_choice_of_object_axes_matters(seed):
    rng = np.random.default_rng(seed)
    world, axes = (
        RigidTransform.from_components(rng.normal(size=3), Rotation.random(rng=rng))
        for _ in range(2)
    )
    # Error there must be, or all would be zero whatever is compared.
    found = filmed.shifted(filmed.trajectory(), 0.01)
    wrong = Rotation.from_rotvec([0.0, 0.05, 0.0]) * Rotation.from_quat(found.rotation[5:])
    found = replace(found, rotation=np.vstack([found.rotation[:5], wrong.as_quat()]))
    plain = measure.compare(found, truth())
    true = truth()
    moved = replace(
        true,
        object=PosePath(true.object.times, world * true.object.poses),
        camera=PosePath(true.camera.times, world * true.camera.poses),
    )
    assert measure.compare(found, moved).figures == pytest.approx(plain.figures, abs=1e-9)
    turned = Rotation.from_quat(found.rotation) * axes.rotation
    other = measure.compare(replace(found, rotation=turned.as_quat()), truth())
    np.testing.assert_allclose(other.position_error, plain.position_error, atol=1e-9)
    np.testing.assert_allclose(other.rotation_error, plain.rotation_error, atol=1e-9)
    assert other.rotation_error.max() == pytest.approx(0.05)


def test_known_errors_come_out_as_they_went_in():
    found = filmed.shifted(filmed.trajectory(), 0.01)
    after = filmed.STEPS >= filmed.CONTACT
    off = np.where(after, 0.1, 0.0)[:, None] * [0.0, 0.0, 1.0]
    turned = Rotation.from_rotvec(off) * Rotation.from_quat(found.rotation)
    camera = found.camera_position + np.where(filmed.STEPS > 0, 0.002, 0)[:, None] * [0, 1, 0]
    found = replace(found, rotation=turned.as_quat(), camera_position=camera)
    compared = measure.compare(found, truth())
    np.testing.assert_allclose(compared.position_error, np.where(after, 0.01, 0), atol=1e-9)
    np.testing.assert_allclose(compared.rotation_error, np.where(after, 0.1, 0), atol=1e-9)
    got = compared.figures
    for name in ("median", "mean", "rmse", "max", "last"):
        assert got[f"position_{name}_m"] == pytest.approx(0.01)
    assert got["rotation_mean_rad"] == pytest.approx(0.1)
    assert got["camera_ate_m"] == pytest.approx(0.002, rel=0.1)


def test_a_wrong_scale_is_told_from_other_errors():
    found = filmed.trajectory()
    rest = found.position[0]
    got = measure.compare(replace(found, position=rest + 0.8 * (found.position - rest)), truth())
    assert got.figures["motion_scale"] == pytest.approx(1.25)
    assert got.figures["position_scaled_m"] < 1e-8 < got.figures["position_mean_m"]
    assert got.figures["position_aligned_m"] < 1e-8
    assert got.figures["position_mean_m"] == pytest.approx(0.2 * got.figures["static_m"])


def test_placement_and_baselines():
    compared = measure.compare(filmed.trajectory(), truth())
    start = filmed.thing(filmed.STEPS)[0]
    surface = start.apply(filmed.SURFACE)
    assert compared.figures["placement_m"] == pytest.approx(
        np.linalg.norm(surface - filmed.REST, axis=1).min()
    )
    assert compared.figures["centre_m"] == pytest.approx(
        np.linalg.norm(surface.mean(0) - filmed.REST)
    )
    moved = filmed.thing(filmed.STEPS) * start.inv()
    way = np.linalg.norm(moved.apply(filmed.REST) - filmed.REST, axis=1)
    after = filmed.STEPS >= filmed.CONTACT
    assert compared.figures["static_m"] == pytest.approx(way[after].mean())
    assert 0 < compared.figures["line_m"] < compared.figures["static_m"]


def test_truth_that_cannot_be_read(tmp_path):
    assert measure.read_truth(store(str(tmp_path)), "task/7") is None
    filmed.write_truth(tmp_path, "task/7")
    read = measure.read_truth(store(str(tmp_path)), "task/7")
    assert read is not None
    assert (read.contact, len(read.points)) == (filmed.CONTACT, 4)
    for content in (b"", b"PK\x03\x04 cut short", b"not a file of arrays"):
        (tmp_path / "task/7.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"task/7\.npz: not a truth file"):
            measure.read_truth(store(str(tmp_path)), "task/7")
    np.savez(tmp_path / "task/7.npz", times=np.arange(3.0))
    with pytest.raises(UserError, match="T_world_object"):
        measure.read_truth(store(str(tmp_path)), "task/7")


def pictures(stills) -> list[np.ndarray]:
    return [
        cv2.cvtColor(cv2.imdecode(np.frombuffer(s.jpeg, np.uint8), 1), cv2.COLOR_BGR2RGB)
        for s in stills
    ]


def colour_at(image: np.ndarray, pixel: np.ndarray, colour: np.ndarray) -> float:
    """How near the picture comes to a colour within a pixel of a place; 0 is that colour."""
    x, y = np.round(pixel).astype(int)
    patch = image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(float)
    return float(np.abs(patch - colour).max(axis=1).min())


@pytest.mark.parametrize("source", ["video", "shards"])
def test_the_object_is_drawn_where_the_camera_saw_it(tmp_path, source):
    """The middle of the filmed disc, found in the bare pictures, is where the drawing goes."""
    found = filmed.trajectory()
    filmed.write_run(tmp_path, {"task/0": found})
    clip = filmed.make_clip(tmp_path / "corpus", "task/0", "")
    stills, why = strip.drawn_strip(found, clip if source == "video" else None)
    steps = [round(still.time * filmed.FPS) for still in stills]
    assert steps[0] == 0
    assert steps[-1] == 39
    assert len(set(steps)) == 8
    assert bool(why) == (source == "shards")
    assert [still.observed for still in stills] == found.visible[steps].tolist()
    video = cv2.VideoCapture(str(tmp_path / "corpus/task/0.mp4"))
    filmed_frames = [video.read()[1] for _ in range(2 * filmed.VIDEO_RATE)]
    for step, image in zip(steps, pictures(stills), strict=True):
        if source == "video":
            bare = filmed_frames[step * filmed.VIDEO_RATE // int(filmed.FPS)]
        else:
            bare = cv2.imdecode(np.frombuffer(found.frames[step], np.uint8), 1)
        assert image.shape == bare.shape
        assert colour_at(image, filmed.middle(bare), AMBER) < 40, step
        # No other frame was drawn into: its disc would stick out.
        around = cv2.dilate(bare.min(-1), np.ones((3, 3)))
        assert not ((image.min(-1) > 200) & (around < 150)).any()
        if source == "video" and step > 20:
            # Where it was at step 15, halfway, as this step's camera sees it.
            back = Rotation.from_quat(found.camera_rotation[step]).inv()
            local = back.apply(found.position[15] - found.camera_position[step])
            pixel = (filmed.K @ local)[:2] / local[2]
            assert colour_at(image, pixel, AMBER) < 60


def test_the_true_path_is_drawn_where_it_differs(tmp_path):
    found = filmed.shifted(filmed.trajectory(), 0.05)
    compared = measure.compare(found, truth())
    stills, _ = strip.drawn_strip(found, None, compared.poses)
    bare = strip.drawn_strip(found, None)[0]
    last, plain = pictures(stills)[-1], pictures(bare)[-1]
    seen = filmed.middle(cv2.imdecode(np.frombuffer(found.frames[-1], np.uint8), 1))
    assert colour_at(last, seen, CYAN) < 60
    assert colour_at(plain, seen, CYAN) > 120


class Balanced(HTMLParser):
    """Collects tags and texts, and sees that what opens closes."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, html: str):
        super().__init__()
        self.tags = Counter[str]()
        self.texts: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_page(tmp_path):
    found = filmed.trajectory()
    endings = {
        "task/0": found,
        "task/1": filmed.shifted(found, 0.0123),
        "lost/2": found,
        "task/3": Verdict("rejected", "nothing_moves", "the object moves by 0.001 m"),
        "lost/4": Verdict("failed", "missing_file", "lost/4.mp4: no such file"),
    }
    url = filmed.write_run(tmp_path, endings, narration="Move the <script>disc</script> & go.")
    for uid in ("task/0", "task/1", "lost/2"):
        filmed.write_truth(tmp_path / "truth", uid)
    out = run(ReportConfig(url, tmp_path / "new" / "page.html", tmp_path / "truth"))
    html = out.read_text("utf-8")
    page = Balanced(html)
    assert page.tags["section"] == 5
    assert page.tags["svg"] == 3
    assert page.tags["script"] == 0
    assert page.text.count("Move the <script>disc</script> & go.") == 5
    assert all(link.startswith(("data:", "#")) for link in page.links)
    # 8 pictures of each trajectory, from the shards where there is no video, and 4 of the rejected.
    shapes = Counter(
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1).shape
        for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", html)
    )
    assert shapes == {(240, 320, 3): 16 + 4, (224, 224, 3): 8}
    assert "position error (mm)" in page.text
    assert "position median 12.3 mm" in page.text
    rows = re.findall(r"(task/1|task/0|lost/2) disc ([\d.]+) mm", page.text)
    assert rows[0] == ("task/1", "12.3")
    assert {uid for uid, _ in rows} == {"task/0", "task/1", "lost/2"}
    assert "nothing_moves 1 20.0%" in page.text
    assert "missing_file 1 20.0%" in page.text
    assert "the object moves by 0.001 m" in page.text
    assert "Not from the video:" in page.text
    assert html.count("not observed</figcaption>") > 0


def test_a_page_without_truth_pictures_or_manifest(tmp_path):
    blind = replace(filmed.trajectory(), frames=[b"\xff\xd8 broken"] * len(filmed.STEPS))
    url = filmed.write_run(tmp_path, {"lost/0": blind})
    shutil.rmtree(tmp_path / "manifest")
    page = Balanced(report.write(url, tmp_path / "page.html").read_text("utf-8"))
    assert page.tags["img"] == 0
    assert page.tags["svg"] == 1
    assert "the manifest that names its video is not at hand" in page.text
    assert "the pictures in the shards cannot be decoded" in page.text
    assert "Against the truth" not in page.text
    assert "object points 31" in page.text


def test_a_run_without_trajectories(tmp_path):
    url = filmed.write_run(tmp_path, {"task/0": Verdict("rejected", "no_object", "none seen")})
    html = report.write(url, tmp_path / "page.html", truth_root=tmp_path).read_text("utf-8")
    page = Balanced(html)
    assert "No clip has a trajectory" in page.text
    assert page.tags["img"] == 4


def test_what_ends_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nothing is committed there; run `extract` first"):
        report.write(str(tmp_path / "none"), tmp_path / "page.html")
    url = filmed.write_run(tmp_path, {"task/0": filmed.trajectory()})
    with pytest.raises(UserError, match="has the truth of none of the 1 ok clips"):
        report.write(url, tmp_path / "page.html", truth_root=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"--out .*cannot be written"):
        report.write(url, tmp_path)
    with pytest.raises(UserError, match="--limit -1"):
        report.write(url, tmp_path / "page.html", limit=-1)
    assert not (tmp_path / "page.html").exists()


def test_the_extra_is_named_where_it_is_missing():
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from ego_ops import report; from ego_ops.errors import UserError\n"
        "try: report.write('x', 'y')\n"
        "except UserError as error: print(error)"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "a report needs jinja2: pip install 'egoscaler-ray[demo]'"


def seen(count: int, status: str, label: str = "", start: int = 0) -> list[Seen]:
    return [
        Seen(
            f"{status}{label}{i:04d}", 0, "", status, label, float(i) if status == "ok" else np.nan
        )
        for i in range(start, start + count)
    ]


def test_all_clips_are_shown_if_they_fit():
    every = seen(3, "ok") + seen(2, "rejected", "a") + seen(1, "failed", "b")
    chosen = choose(Survey(seen=every), 6)
    assert Counter(chosen) == Counter(every)
    ok = [one.badness for one in chosen if one.status == "ok"]
    assert ok == [2.0, 1.0, 0.0]


@pytest.mark.parametrize(("limit", "ok", "other"), [(24, 12, 12), (5, 3, 2), (1, 1, 0), (0, 0, 0)])
def test_many_clips_are_shared_out(limit, ok, other):
    every = seen(500, "ok") + seen(300, "rejected", "often") + seen(2, "rejected", "seldom")
    every += seen(50, "failed", "broken")
    chosen = choose(Survey(seen=every), limit)
    counts = Counter(one.status for one in chosen)
    assert (counts["ok"], counts["rejected"] + counts["failed"]) == (ok, other)
    labels = Counter(one.label for one in chosen if one.status != "ok")
    if limit == 24:
        assert labels == {"broken": 5, "often": 5, "seldom": 2}
        worst = [one.badness for one in chosen if one.status == "ok"]
        assert worst[0] == 499
        assert worst[-1] == 0
        assert worst == sorted(worst, reverse=True)


def test_places_that_others_leave_go_to_ok_clips():
    chosen = choose(Survey(seen=seen(500, "ok") + seen(1, "failed", "x")), 24)
    assert Counter(one.status for one in chosen) == {"ok": 23, "failed": 1}


def test_rotation_vectors_do_not_jump_at_half_a_turn():
    angle = np.linspace(0, 1.5 * np.pi, 60)
    turn = Rotation.from_rotvec(angle[:, None] * [0.0, 0.6, 0.8])
    vectors = figures._turns(turn * Rotation.from_euler("x", 0.4))
    expected = np.degrees(angle)[:, None] * [0.0, 0.6, 0.8]
    np.testing.assert_allclose(np.linalg.norm(np.diff(vectors, axis=0), axis=1).max(), 270 / 59)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
