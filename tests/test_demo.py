"""The demo's own mistakes and verdict; the whole of it runs in `test_cli`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ego_ops.errors import UserError
from ego_ops.report.survey import Seen, Survey
from tests.evaluation_runs import MAIN
from workflows import demo

PATIENCE_S = 60


def test_every_corpus_of_the_demo_has_a_reader_and_a_writer() -> None:
    from ego_ops.corpora import CORPORA

    assert set(demo.CORPORA) <= set(CORPORA)
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("the extra `demo` is not installed")
    from ego_ops.synthetic import WRITERS

    assert set(demo.CORPORA) == set(WRITERS) - {"tabletop"}  # that one is for `reproduce`


def test_what_the_demo_does_not_have_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epic100: the demo has ego4d, egoexo4d"):
        demo.run(demo.DemoConfig(out=tmp_path, corpus=("hdepic", "epic100")))
    with pytest.raises(UserError, match="--clips 0"):
        demo.run(demo.DemoConfig(out=tmp_path, clips=0))
    assert not list(tmp_path.iterdir())


def test_verdict_is_by_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    errors = {"a": ("ego4d", 0.01, 0.1), "b": ("ego4d", 0.03, 0.3), "c": ("hdepic", 0.002, 0.01)}
    found = Survey()
    for clip, (corpus, metres, radians) in errors.items():
        found.seen.append(Seen(clip, 0, "", "ok", "", metres, corpus))
        found.figures[clip] = {"position_median_m": metres, "rotation_median_rad": radians}
        for name, value in found.figures[clip].items():
            found.values[name].append(value)
    demo._print_verdict(found, ("ego4d", "hdepic", "nymeria"))
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[1][:5] == ["ego4d", "2.00", "cm", "and", "11.5"]
    assert said[2][:5] == ["hdepic", "0.20", "cm", "and", "0.6"]
    assert said[3][:3] == ["nymeria", "no", "clip"]
    assert said[4][:5] == ["all", "1.00", "cm", "and", "5.7"]


def test_killed_it_leaves_nobody_rendering(tmp_path: Path) -> None:
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("the extra `demo` is not installed")
    words = ["demo", "--out", str(tmp_path / "out"), "--corpus", "egodex", "--clips", "4"]
    demonstrating = subprocess.Popen([sys.executable, "-c", MAIN, *words])
    end = time.monotonic() + PATIENCE_S
    renderers: list[psutil.Process] = []
    try:
        while not renderers and time.monotonic() < end:
            time.sleep(0.1)
            found = psutil.Process(demonstrating.pid).children(recursive=True)
            renderers = [one for one in found if "spawn_main" in " ".join(one.cmdline())]
    finally:
        demonstrating.kill()
        demonstrating.wait()
    assert renderers, "it rendered nothing"
    _, left = psutil.wait_procs(renderers, PATIENCE_S)
    for one in left:
        one.kill()
    assert not left
