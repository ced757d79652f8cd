"""The numbers of a run, as they are read back from its files."""

from __future__ import annotations

import json
import logging
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ego_ops.errors import UserError
from training.log import FILE, Log


def _records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE).read_text("utf-8").splitlines()]


def _board(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_records_are_read_back_while_the_run_goes_on(tmp_path: Path) -> None:
    with Log(tmp_path / "run") as log:
        log.write(10, {"train/loss": 0.5, "source": "shards", "samples": 320})
        assert _records(tmp_path / "run") == [
            {"step": 10, "train/loss": 0.5, "source": "shards", "samples": 320}
        ]
        log.write(20, {"train/loss": 0.25, "mfu": None})
        assert _records(tmp_path / "run")[1] == {"step": 20, "train/loss": 0.25, "mfu": None}
    assert _board(tmp_path / "run", "train/loss") == [(10, 0.5), (20, 0.25)]
    assert _board(tmp_path / "run", "samples") == [(10, 320.0)]


def test_numbers_that_are_not_finite_are_null_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Log(tmp_path) as log:
        log.write(3, {"loss": math.nan, "norm": -math.inf, "rate": 0.5})
    assert _records(tmp_path) == [{"step": 3, "loss": None, "norm": None, "rate": 0.5}]
    assert "step 3: loss is nan" in caplog.text
    assert "step 3: norm is -inf" in caplog.text


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        for step in (10, 20, 30, 40):
            log.write(step, {"loss": float(step)})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 50, "lo')  # killed as it wrote
    time.sleep(1.1)  # TensorBoard orders a run's files by the second of their making
    with Log(tmp_path, resume_step=20) as log:
        for step in (30, 40):
            log.write(step, {"loss": step + 0.5})
    assert [(r["step"], r["loss"]) for r in _records(tmp_path)] == [
        (10, 10.0),
        (20, 20.0),
        (30, 30.5),
        (40, 40.5),
    ]
    assert _board(tmp_path, "loss") == [(10, 10.0), (20, 20.0), (30, 30.5), (40, 40.5)]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        with Log(tmp_path) as log:
            log.write(0, {"loss": loss})
    assert _records(tmp_path) == [{"step": 0, "loss": 2.0}]
    assert _board(tmp_path, "loss") == [(0, 2.0)]


def test_records_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from training.log import Log\n"
        "log = Log(sys.argv[1])\n"
        "log.write(1, {'loss': 0.5})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert _records(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: ") as raised:
        Log(tmp_path / "run")
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log._file.close()
    log._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115 (the log closes it)
    with pytest.raises(UserError, match="No space left on device") as raised:
        log.write(1, {"loss": 0.5})
    assert "\n" not in str(raised.value)


def test_a_file_at_its_largest_leaves_the_older_records(tmp_path: Path) -> None:
    """What fails in rewriting the file at a resume leaves it as it was."""
    with Log(tmp_path) as log:
        for step in range(200):
            log.write(step, {"loss": 0.5})
    before = (tmp_path / FILE).read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from ego_ops.errors import UserError\n"
        "from training.log import Log\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    Log(sys.argv[1], resume_step=150)\n"
        "except UserError as error:\n"
        "    sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert (tmp_path / FILE).read_bytes() == before
