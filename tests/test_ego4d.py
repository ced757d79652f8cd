"""Ego4D: index and recording from files in the published form."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from ego_ops.camera import Camera
from ego_ops.clip import Clip
from ego_ops.corpora import CORPORA, devices, ego4d
from ego_ops.corpora.skipped import Skipped
from ego_ops.errors import AnnotationError, MissingFileError, UserError
from tests import ego4d_files as files
from tests.ego4d_files import PASS_1, PASS_2, VIDEO_A, VIDEO_B, action, handled, said, told, video
from tests.video_files import picture, write_video

NARRATIONS = {
    VIDEO_A: told(
        [
            said(10.0, "#C C picks a cup from the table"),
            said(11.2, "#C C walks to the sink"),
            said(30.0, "#C C puts the cup on the shelf"),
            said(40.0, "#O a man X picks a plate"),
            said(None, "#C C picks a spoon"),
            said(50.0, None),
            None,
        ],
        [said(10.4, "#C C picks up the cup", PASS_2), said(60.0, "#C C cuts a carrot", PASS_2)],
    ),
    VIDEO_B: told(None, [said(5.0, "#C C opens the drawer", PASS_2)]),
}
METADATA = files.metadata(video(VIDEO_A), video(VIDEO_B, device="Vuzix Blade"))


def index(root):
    found = list(ego4d.index(str(root)))
    clips = {c.narration: c for c in found if isinstance(c, Clip)}
    skipped = [s for s in found if isinstance(s, Skipped)]
    assert len({c.clip_id for c in clips.values()}) == len(clips) == len(found) - len(skipped)
    return clips, skipped


def reasons(skipped):
    counts = Counter()
    for one in skipped:
        counts[one.reason] += one.count
    return dict(counts)


def test_narrations_become_clips(tmp_path):
    files.write(tmp_path, ego4d=METADATA, narration=NARRATIONS, full=[VIDEO_A, VIDEO_B])
    clips, skipped = index(tmp_path)
    assert {
        (c.video_uid, c.narration, round(c.t_start, 6), round(c.t_end, 6)) for c in clips.values()
    } == {
        (VIDEO_A, "C picks a cup from the table", 8.0, 11.2),
        (VIDEO_A, "C puts the cup on the shelf", 28.0, 32.0),
        (VIDEO_A, "C cuts a carrot", 58.0, 62.0),
        (VIDEO_B, "C opens the drawer", 3.0, 7.0),
    }
    cup = clips["C picks a cup from the table"]
    assert (cup.corpus, cup.corpus_version, cup.interval) == ("ego4d", "v2", "narrated")
    assert (cup.verb, cup.object, cup.boxes) == ("pick", "cup", ())
    assert cup.video == str(tmp_path / "full_scale" / f"{VIDEO_A}.mp4")
    assert reasons(skipped) == {
        "missing_file": 1,
        "moves_about": 1,
        "other_person": 1,
        "bad_interval": 1,
        "no_manipulation": 1,
        "duplicate": 1,
    }


def test_an_action_takes_the_place_of_its_narration(tmp_path):
    main = {"videos": [handled(VIDEO_A, action(30.0, "#C C puts the cup on the shelf"))]}
    data = {"ego4d": METADATA, "narration": NARRATIONS, "fho_main": main}
    files.write(tmp_path, **data, full=[VIDEO_A, VIDEO_B])
    clips, skipped = index(tmp_path)
    put = clips["C puts the cup on the shelf"]
    assert (put.t_start, put.t_end, put.interval) == (26.0, 34.0, "annotated")
    assert (put.verb, put.object) == ("put", "cup")
    assert [(b.t, b.x0, b.y0, b.x1, b.y1) for b in put.boxes] == [
        (30.0, 600.0, 300.0, 700.0, 380.0),
        (30.5, 620.0, 300.0, 720.0, 380.0),
        (31.0, 640.0, 300.0, 740.0, 380.0),
    ]
    assert reasons(skipped)["duplicate"] == 1  # the cup that both annotators saw picked
    assert len(clips) == 4


def test_small_videos_have_small_boxes_and_the_same_ids(tmp_path):
    main = {"videos": [handled(VIDEO_A, action(30.0, "#C C puts the cup on the shelf"))]}
    data = {"ego4d": METADATA, "narration": NARRATIONS, "fho_main": main}
    full, _ = index(files.write(tmp_path / "full", **data, full=[VIDEO_A, VIDEO_B]))
    small, _ = index(files.write(tmp_path / "small", **data, small=[VIDEO_A], full=[VIDEO_B]))
    assert {c.clip_id for c in small.values()} == {c.clip_id for c in full.values()}
    put = small["C puts the cup on the shelf"]
    assert put.video_path == f"video_540ss/{VIDEO_A}.mp4"
    # Borders lie half a pixel outside the pixels' centres: 600 -> (600 + 0.5) / 2 - 0.5.
    assert (put.boxes[0].x0, put.boxes[0].y1) == (299.75, 189.75)
    camera = ego4d.recording(put).camera
    assert (camera.width, camera.height) == (960, 540)
    both, _ = index(files.write(tmp_path / "small", full=[VIDEO_A]))
    assert both["C puts the cup on the shelf"].video_path == f"full_scale/{VIDEO_A}.mp4"


def test_actions_that_are_none(tmp_path):
    text = "#C C puts the cup on the shelf"
    nulls = dict.fromkeys(
        ("uid", "frames", "critical_frames", "structured_verb", "reject_reason", "stage")
    )
    main = {
        "videos": [
            handled(
                VIDEO_A,
                action(10.0, text, is_rejected=True),
                action(20.0, text, is_invalid_annotation=True),
                action(30.0, text, is_valid_action=False),
                action(40.0, text, start_sec=44.0, end_sec=36.0),
                action(50.0, text, **nulls),
                action(
                    60.0, "#C C opens a jar", structured_verb="[other]", freeform_verb="unscrew"
                ),
                action(70.0, "#C C lifts a pan", structured_verb="None"),
                action(80.0, "#C C shakes a can", start_sec=None, end_sec=None),
                action(90.0, "#C C stirs soup", structured_verb="cross", frames=[None, {}]),
                action(100.0, None),
                None,
            ),
            None,
        ]
    }
    clips, skipped = index(files.write(tmp_path, ego4d=METADATA, fho_main=main, full=[VIDEO_A]))
    assert {(c.verb, c.t_start, c.t_end, len(c.boxes)) for c in clips.values()} == {
        ("put", 46.0, 54.0, 0),
        ("unscrew", 56.0, 64.0, 3),
        ("lift", 66.0, 74.0, 3),
        ("put", 78.0, 82.0, 3),
        ("stir", 86.0, 94.0, 0),
    }
    assert reasons(skipped) == {
        "missing_file": 1,
        "rejected": 3,
        "bad_interval": 1,
        "no_manipulation": 1,
    }


def test_both_spellings(tmp_path):
    entry = handled(VIDEO_A, action(30.0, "#C C puts the cup on the shelf"))
    plain = {"ego4d": METADATA, "narration": NARRATIONS, "fho_main": {"videos": [entry]}}
    del (nested := dict(entry))["video_uid"]
    other = {
        "ego4d": METADATA,
        "narration": {"version": "x", "videos": dict(reversed(NARRATIONS.items()))},
        "fho_main": {"video_data": {VIDEO_A: nested}},
    }
    a, _ = index(files.write(tmp_path / "a" / "v2", **plain, full=[VIDEO_A, VIDEO_B]).parent)
    b, _ = index(files.write(tmp_path / "b" / "v2", **other, full=[VIDEO_A, VIDEO_B]))
    assert {n: c.clip_id for n, c in a.items()} == {n: c.clip_id for n, c in b.items()}
    assert [c.boxes for c in a.values() if c.boxes] == [c.boxes for c in b.values() if c.boxes]


def test_partly_downloaded(tmp_path):
    files.write(tmp_path, ego4d=METADATA, narration=NARRATIONS, full=[VIDEO_B])
    (tmp_path / "full_scale" / f"{VIDEO_A}.mp4").write_bytes(b"")
    before, skipped = index(tmp_path)
    (missing,) = [s for s in skipped if s.reason == "no_video"]
    assert (missing.where, missing.count) == (VIDEO_A, 8)
    assert f"full_scale/{VIDEO_A}.mp4" in missing.detail
    after, _ = index(files.write(tmp_path, full=[VIDEO_A]))
    assert set(before) < set(after)
    assert all(after[name].clip_id == clip.clip_id for name, clip in before.items())


def test_without_metadata(tmp_path):
    main = {"videos": [handled(VIDEO_A, action(30.0, "#C C puts the cup on the shelf"))]}
    files.write(tmp_path, narration=NARRATIONS, fho_main=main, full=[VIDEO_A, VIDEO_B])
    clips, skipped = index(tmp_path)
    assert len(clips) == 4
    assert [s.where for s in skipped if s.reason == "missing_file"] == ["ego4d.json"]
    camera = ego4d.recording(clips["C puts the cup on the shelf"]).camera
    assert (camera.width, camera.height) == (1920, 1080)


def test_a_resolution_that_no_file_tells_is_the_videos(tmp_path):
    unknown = {"display_resolution_width": None, "display_resolution_height": None}
    metadata = files.metadata(video(VIDEO_B, stream=unknown))
    files.write(tmp_path, ego4d=metadata, narration=NARRATIONS, full=[VIDEO_B])
    path = tmp_path / "full_scale" / f"{VIDEO_B}.mp4"
    write_video(path, [i / 30 for i in range(5)])
    clips, _ = index(tmp_path)
    camera = ego4d.recording(clips["C opens the drawer"]).camera
    assert (camera.width, camera.height) == picture(0).shape[1::-1]
    path.unlink()
    with pytest.raises(MissingFileError):
        ego4d.recording(clips["C opens the drawer"])


def test_links_that_lead_nowhere_are_missing_videos(tmp_path):
    files.write(tmp_path, ego4d=METADATA, narration=NARRATIONS, full=[VIDEO_A])
    (tmp_path / "full_scale" / f"{VIDEO_B}.mp4").symlink_to(tmp_path / "gone.mp4")
    _, skipped = index(tmp_path)
    assert [s.where for s in skipped if s.reason == "no_video"] == [VIDEO_B]


def test_nothing_usable_is_said(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list(ego4d.index(str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"no Ego4D annotations .*narration\.json"):
        list(ego4d.index(str(files.write(tmp_path, ego4d=METADATA))))
    files.write(tmp_path, narration=NARRATIONS, full=[VIDEO_A])
    path = tmp_path / "annotations" / "narration.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(
        UserError, match=r"narration\.json: not JSON at byte \d+.*download it again"
    ):
        list(ego4d.index(str(tmp_path)))


def clip(root, device="GoPro Hero 4", size=(1920, 1080)):
    return Clip(
        clip_id="0" * 16,
        corpus="ego4d",
        corpus_version="v2",
        video_uid=VIDEO_A,
        root=str(root),
        video_path="",
        annotation_path="",
        t_start=10.0,
        t_end=12.0,
        narration="",
        details=json.dumps({"device": device, "size": list(size)}),
    )


@pytest.mark.parametrize(
    ("size", "degrees"), [((1920, 1080), 118.2), ((1440, 1080), 122.6), ((960, 540), 118.2)]
)
def test_gopro_is_an_equidistant_fisheye(tmp_path, size, degrees):
    found = CORPORA["ego4d"].recording(clip(tmp_path, size=size))
    assert found.path is None
    assert found.lens.size == size == (found.camera.width, found.camera.height)
    edge = math.radians(degrees / 2)
    rays = [[math.sin(a), 0.0, math.cos(a)] for a in (-edge, -edge / 2, 0.0, edge / 4, edge)]
    x = found.lens.stored(np.array(rays))[:, 0] + 0.5
    np.testing.assert_allclose(x / size[0], [0, 0.25, 0.5, 0.625, 1], atol=1e-6)
    # The pinhole keeps the scale in the middle of the picture.
    near = np.array([[0.001, 0.001, 1.0]])
    np.testing.assert_allclose(found.camera.project(near), found.lens.stored(near), atol=1e-3)


def test_other_devices(tmp_path):
    glasses = ego4d.recording(clip(tmp_path, "Pupil Labs Invisible", (1088, 1080)))
    assert glasses.lens.distortion[0] < 0
    assert glasses.camera.fx == pytest.approx(766.3, abs=0.1)
    for device in ("Vuzix Blade", "", "Pupil Labs Invisible"):
        found = ego4d.recording(clip(tmp_path, device, (1280, 720)))
        assert found.lens is None
        left, right = found.camera.rays(np.array([[-0.5, 359.5], [1279.5, 359.5]]))
        spread = math.degrees(math.atan(right[0]) - math.atan(left[0]))
        assert spread == pytest.approx(devices.ASSUMED_FOV)


def test_intrinsics_of_ones_own(tmp_path):
    own = {"width": 960, "height": 540, "fx": 600.0, "fy": 601.0, "cx": 479.5, "cy": 270.0}
    bent = {**own, "model": "unified", "xi": 0.5}
    path = tmp_path / "intrinsics.json"
    path.write_text(json.dumps({VIDEO_A: own, "Vuzix Blade": bent, "odd": {**bent, "xi": "x"}}))
    found = ego4d.recording(clip(tmp_path))  # the video's comes before the device's
    assert found.lens is None
    assert found.camera == Camera(1200.0, 1202.0, 959.5, 540.5, 1920, 1080)
    other = clip(tmp_path, "Vuzix Blade")
    other = Clip(**{**other.__dict__, "video_uid": VIDEO_B})
    found = ego4d.recording(other)
    assert (found.lens.size, found.camera.fx) == ((1920, 1080), pytest.approx(800.0))
    x, y, z = 0.36, 0.48, 0.8  # of length 1: seen from 0.5 behind the centre
    half = np.array([600.0 * x / (z + 0.5) + 479.5, 601.0 * y / (z + 0.5) + 270.0])
    expected = 2 * (half + 0.5) - 0.5
    np.testing.assert_allclose(found.lens.stored(np.array([7 * x, 7 * y, 7 * z])), expected)
    assert np.isnan(found.lens.stored(np.array([0.1, 0.0, -1.0]))).all()
    for device, size, message in (
        ("odd", (1920, 1080), r"intrinsics\.json: odd: xi is 'x'"),
        ("Vuzix Blade", (1440, 1080), "not the same aspect ratio"),
    ):
        wrong = Clip(**{**clip(tmp_path, device, size).__dict__, "video_uid": VIDEO_B})
        with pytest.raises(AnnotationError, match=message):
            ego4d.recording(wrong)


def imu_lines(rows):
    head = (
        "component_idx,component_timestamp_ms,canonical_timestamp_ms,"
        "gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z"
    )
    return "\n".join([head, *rows]) + "\n"


def test_inertial_readings(tmp_path):
    times = np.arange(0, 60_000, 5.0)
    rows = [f"0,{t},{t},{t / 1e6},0.2,0.3,0.0,-9.8,0.1" for t in times]
    rows[2100], rows[2101] = rows[2101], rows[2100]  # out of order
    rows[2200] = "0,11000.0,,0,0,0,0,0,0"  # cut out of the video
    rows[2210] = "0,11050.0,11050.0,0.1,0.2,0.3,,,"  # acceleration missing
    rows[5000] = "0,25000.0,-1e15,0.1,0.2,0.3,0.0,9.8,0.1"
    path = tmp_path / "imu" / f"{VIDEO_A}.csv"
    path.parent.mkdir()
    path.write_text(imu_lines(rows))
    imu = ego4d.recording(clip(tmp_path)).imu
    expected = times[(times >= 9000) & (times <= 13_000)]
    expected = expected[(expected != 11_000) & (expected != 11_050)] / 1e3
    np.testing.assert_allclose(imu.times, expected)
    np.testing.assert_allclose(imu.gyro[:, 0], expected / 1e3)
    np.testing.assert_allclose(imu.accel[0], [0.0, -9.8, 0.1])

    path.write_text(imu_lines([row.replace("-9.8", "-1.2") for row in rows]))
    assert ego4d.recording(clip(tmp_path)).imu is None  # feels no gravity
    path.write_text(imu_lines(rows[:100]))
    assert ego4d.recording(clip(tmp_path)).imu is None  # ends before the clip
    path.write_text("canonical_timestamp_ms,gyro_x\n1,2\n")
    with pytest.raises(AnnotationError, match="lacks one of the columns"):
        ego4d.recording(clip(tmp_path))
    path.unlink()
    assert ego4d.recording(clip(tmp_path)).imu is None


def test_order_of_the_files_does_not_matter(tmp_path):
    main = [handled(uid, action(30.0, "#C C puts the cup down")) for uid in (VIDEO_A, VIDEO_B)]
    forward = {"ego4d": METADATA, "narration": NARRATIONS, "fho_main": {"videos": main}}
    turned = {
        "ego4d": {**METADATA, "videos": METADATA["videos"][::-1]},
        "narration": {
            uid: {
                name: {**part, "narrations": part["narrations"][::-1]}
                for name, part in reversed(entry.items())
                if name != "status"
            }
            for uid, entry in reversed(NARRATIONS.items())
        },
        "fho_main": {"videos": main[::-1]},
    }
    rows = []
    for name, data in (("a", forward), ("b", turned)):
        root = files.write(tmp_path / name, **data, full=[VIDEO_A, VIDEO_B])
        found = [c for c in ego4d.index(str(root)) if isinstance(c, Clip)]
        rows.append({(c.clip_id, c.narration, c.verb, c.t_start, c.t_end, c.boxes) for c in found})
    assert rows[0] == rows[1]
    assert len(rows[0]) == 5


def test_annotators_share_one_uid_over_a_pass(tmp_path):
    again = {VIDEO_A: told([said(t, "#C C cuts a carrot", PASS_1) for t in (10.0, 20.0, 30.0)])}
    main = {"videos": [handled(VIDEO_A, action(20.0, "#C C cuts a carrot"))]}
    data = {"ego4d": METADATA, "narration": again, "fho_main": main}
    root = files.write(tmp_path, **data, full=[VIDEO_A])
    found = [c for c in ego4d.index(str(root)) if isinstance(c, Clip)]
    assert [(c.t_start, c.interval) for c in found] == [
        (8.0, "narrated"),
        (16.0, "annotated"),
        (28.0, "narrated"),
    ]
