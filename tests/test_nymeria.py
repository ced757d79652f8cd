"""Nymeria's reader against hand-made files in the published form, and a real VRS file."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from ego_ops.clip import Clip
from ego_ops.corpora import nymeria
from ego_ops.errors import MissingFileError, UserError
from tests.aria_corpora_files import device_time, touch, write_sequence

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "aria" / "everyday_activities"
NAME = "20230607_s0_james_johnson_act0_e72nhq"
START = 5830.4
ROWS = [
    (5831.0, 5836.0, "C walks to the table, then picks up the red mug with his right hand."),
    (5836.0, 5841.0, "C looks around\nthe room, and folds the towel,\n\nthen sits down."),
    (5841.0, 5846.0, "C talks to the observer."),
    (5846.0, 5851.0, ""),
    (5880.0, 5884.0, "C opens the drawer."),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sequence(tmp_path, NAME, ROWS, START)
    return tmp_path


def read(root: Path) -> tuple[list[Clip], Counter[str]]:
    found = list(nymeria.index(str(root)))
    left = Counter[str]()
    for one in found:
        if not isinstance(one, Clip):
            left[one.reason] += one.count
    return [one for one in found if isinstance(one, Clip)], left


def test_rows_on_the_device_clock(root: Path) -> None:
    """With a byte order mark, a blank line, and line breaks within a cell."""
    clips, left = read(root)
    assert [(clip.verb, clip.object) for clip in clips] == [
        ("pick up", "red mug"),
        ("fold", "towel"),
        ("open", "drawer"),
    ]
    assert left == {"talks": 1}
    assert clips[1].narration == "C looks around the room, and folds the towel, then sits down."
    for clip, row in zip(clips, (ROWS[0], ROWS[1], ROWS[4]), strict=True):
        assert clip.t_start == pytest.approx(row[0] - START)
        assert clip.t_end == pytest.approx(row[1] - START)
        assert clip.interval == "annotated"
        recording = nymeria.recording(clip)
        assert device_time(recording, clip.t_start) == pytest.approx(row[0], abs=2e-3)
        assert device_time(recording, clip.t_end) == pytest.approx(row[1], abs=2e-3)
    assert clips[0].video_path == f"{NAME}/recording_head/data/data.mp4"
    assert clips[0].annotation_path == f"{NAME}/recording_head/mps/slam"
    assert clips[0].video_uid == NAME


def test_a_byte_order_mark_changes_nothing(root: Path) -> None:
    before, _ = read(root)
    path = root / NAME / nymeria.TABLE
    text = path.read_text("utf-8")
    assert text[0] == "\ufeff"
    path.write_text(text[1:], "utf-8")
    assert read(root)[0] == before


def test_an_mp4_is_upright(root: Path) -> None:
    recording = nymeria.recording(read(root)[0][0])
    assert recording.lens is not None
    assert recording.lens.turns == 1


def test_one_sequence_or_a_folder_of_them(root: Path) -> None:
    write_sequence(root, "20230608_s1_act3_abc", ROWS[:1], START)
    touch(root / "download_summary.json")
    (root / ".download_logs").mkdir()
    both, _ = read(root)
    assert [clip.video_uid for clip in both] == [NAME] * 3 + ["20230608_s1_act3_abc"]
    alone, _ = read(root / NAME)
    assert alone == both[:3]


def test_an_interval_that_the_recording_only_partly_covers(tmp_path: Path) -> None:
    rows = [
        (5829.0, 5834.0, "C picks up the cup."),  # from 1.4 s before the first frame
        (5826.0, 5831.0, "C opens the box."),  # hardly any of it
        (5888.0, 5893.0, "C lifts the chair."),  # beyond the last pose, 5891.4 s
        (120.0, 125.0, "C closes the door."),  # of another clock
    ]
    write_sequence(tmp_path, NAME, rows, START)
    found = list(nymeria.index(str(tmp_path)))
    clips = [one for one in found if isinstance(one, Clip)]
    assert [(clip.object, round(clip.t_start, 3), round(clip.t_end, 3)) for clip in clips] == [
        ("cup", 0.0, 3.6),
        ("chair", 57.6, 61.0),
    ]
    (late,) = (one for one in found if not isinstance(one, Clip))
    assert (late.reason, late.count) == ("outside_recording", 2)
    assert "5830.4 to 5891.4 s" in late.detail


@pytest.mark.parametrize(
    "table",
    [
        None,
        "",
        "request_id,gaia_id,start_time,end_time,annotator,Describe my atomic actions\n",
        "start_time,end_time,Describe my atomic actions\n\n5831,5836,\n",
    ],
)
def test_sequences_without_narration_are_counted(root: Path, table: str | None) -> None:
    path = root / NAME / nymeria.TABLE
    path.unlink()
    if table is not None:
        path.write_text(table)
    assert read(root) == ([], {"no_narration": 1})


@pytest.mark.parametrize(
    "table",
    [
        "start_time,end_time,Describe my activity\n1,2,C cooks.\n",
        "Describe my atomic actions\nC cooks.\n",
        "start_time,end_time,Describe my atomic actions\n1,2,\xff\xfe\n",
    ],
)
def test_tables_that_are_something_else(root: Path, table: str) -> None:
    (root / NAME / nymeria.TABLE).write_bytes(table.encode("latin1"))
    write_sequence(root, "20230608_s1_act3_abc", ROWS[:1], START)
    clips, left = read(root)
    assert [clip.video_uid for clip in clips] == ["20230608_s1_act3_abc"]
    assert left == {"bad_annotation": 1}


def test_rows_that_are_broken(root: Path) -> None:
    (root / NAME / nymeria.TABLE).write_text(
        "start_time,end_time,Describe my atomic actions,annotator\n"
        "5831,,C picks up the cup.,A\n"
        "soon,later,C opens the box.,A\n"
        "5840,5836,C closes the box.,A\n"
        "5850,5855\n"
        "5860,5865,C lifts the chair.,A,surplus,cells\n"
    )
    clips, left = read(root)
    assert [clip.object for clip in clips] == ["chair"]
    assert left == {"bad_interval": 3}


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("data/data.mp4", "no_video"),
        ("data", "no_video"),
        ("data/data_mp4_to_vrs_time_ns.csv", "no_clock"),
        ("mps", "no_trajectory"),
        ("mps/slam/online_calibration.jsonl", "no_calibration"),
    ],
)
def test_what_is_not_downloaded_is_named(root: Path, lost: str, reason: str) -> None:
    write_sequence(root, "20230608_s1_act3_abc", ROWS[:1], START)
    before = [clip.clip_id for clip in read(root)[0]]
    place = root / NAME / "recording_head" / lost
    shutil.move(place, root / "kept")
    clips, left = read(root)
    assert [clip.clip_id for clip in clips] == before[3:]
    assert left == {reason: 4}
    shutil.move(root / "kept", place)
    assert [clip.clip_id for clip in read(root)[0]] == before


def test_files_that_are_damaged(root: Path) -> None:
    head = root / NAME / "recording_head"
    slam, sheet = head / "mps" / "slam", head / "data" / "data_mp4_to_vrs_time_ns.csv"
    whole = (slam / "closed_loop_trajectory.csv").read_text()
    (slam / "closed_loop_trajectory.csv").write_text("graph_uid,utc_timestamp_ns\n1,2\n")
    assert read(root) == ([], {"bad_trajectory": 4})
    (slam / "closed_loop_trajectory.csv").write_text(whole[:-30])  # the last line cut off
    assert len(read(root)[0]) == 3
    sheet.write_text("mp4_time_ns,vrs_device_time_ns\n")
    assert read(root) == ([], {"bad_clock": 4})
    sheet.unlink()
    (head / "data" / "data.mp4").unlink()
    (head / "data" / "data.vrs").write_bytes(b"no VRS file")
    pytest.importorskip("projectaria_tools")
    assert read(root) == ([], {"bad_video": 4})


def test_no_sequences_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"no Nymeria sequences here \(looked for <sequence>"):
            next(nymeria.index(str(path)))


def test_a_clip_whose_clock_is_gone(root: Path) -> None:
    clip = read(root)[0][0]
    (root / NAME / "recording_head" / "data" / "data_mp4_to_vrs_time_ns.csv").unlink()
    with pytest.raises(MissingFileError, match=r"mp4_to_vrs_time_ns\.csv is not beside it"):
        nymeria.recording(clip)


@pytest.fixture
def filmed(tmp_path: Path) -> tuple[Path, float]:
    """A sequence with a real VRS file, and the capture time of its first frame."""
    if not REAL.is_dir():
        pytest.skip("no Aria recording in shared/data")
    tools = pytest.importorskip("projectaria_tools.core.data_provider")
    provider = tools.create_vrs_data_provider(str(REAL / "recording.vrs"))
    stream = provider.get_stream_id_from_label("camera-rgb")
    domain = pytest.importorskip("projectaria_tools.core.sensor_data").TimeDomain.DEVICE_TIME
    start = provider.get_first_time_ns(stream, domain) / 1e9
    rows = [(start + 0.5, start + 3.5, "C picks up the cup.")]
    folder = write_sequence(tmp_path, NAME, rows, start)
    (folder / "recording_head" / "data" / "data.vrs").symlink_to(REAL / "recording.vrs")
    return tmp_path, start


def test_a_real_vrs_file(filmed: tuple[Path, float]) -> None:
    root, start = filmed
    (by_mp4,) = read(root)[0]
    (root / NAME / "recording_head" / "data" / "data.mp4").unlink()
    (clip,) = read(root)[0]
    assert clip.clip_id == by_mp4.clip_id
    assert clip.video_path.endswith("/data.vrs")
    assert (clip.t_start, clip.t_end) == (pytest.approx(0.5), pytest.approx(3.5))
    recording = nymeria.recording(clip)
    assert device_time(recording, 2.0) == pytest.approx(start + 2.0, abs=2e-3)
    assert recording.lens is not None
    assert recording.lens.turns == 0


def test_without_projectaria_tools(
    filmed: tuple[Path, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = filmed
    for name in [name for name in sys.modules if name.startswith("projectaria_tools")]:
        monkeypatch.delitem(sys.modules, name)
    absent = root / "packages" / "projectaria_tools"  # in processes begun from here as well
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('not installed')")
    monkeypatch.syspath_prepend(absent.parent)
    assert len(read(root)[0]) == 1  # an MP4 needs none
    (root / NAME / "recording_head" / "data" / "data.mp4").unlink()
    with pytest.raises(UserError, match="VRS files need projectaria-tools: pip install"):
        read(root)
