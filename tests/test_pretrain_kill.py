"""`egoscaler train`, killed: it goes on where it stopped, and ends as if it had not been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import minute_training as minute
from tests.training_runs import Run
from training.saved_files import completed

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
LENGTH = ("--steps", "150")
OPTIONS = ("save_every=10", "keep_every=50", "optimiser.epsilon=1e-5")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def undisturbed(home) -> Path:
    run = Run(home / "undisturbed", *OPTIONS, *LENGTH)
    text = run.text()
    assert "trained to step 150" in text
    assert "going on" not in text
    return run.folder


@pytest.mark.timeout(1200)  # six commands, one after the other
def test_killed_and_interrupted_it_ends_as_if_it_had_not_been(home, undisturbed):
    folder = home / "disturbed"
    run = Run(folder, *OPTIONS, *LENGTH)
    run.wait_for(20)
    (worker,) = run.workers()
    run.kill(worker)  # another takes its place, in the same run of the command
    newest = run.wait_for(40)
    assert run.workers() != [worker]
    run.process.send_signal(signal.SIGINT)
    assert f"interrupted; what is committed in {folder} stays" in run.error()

    run = Run(folder, *OPTIONS, *LENGTH)
    newest = run.wait_for(newest + 20)
    run.kill_all()
    assert newest < 150
    last = completed(folder)[0]
    os.truncate(last.path / "__0_0.distcp", 1000)
    text = Run(folder, *OPTIONS, *LENGTH).text()
    assert f"warning: {last.path} is damaged (__0_0.distcp has 1000 of " in text
    assert "trained to step 150" in text

    minute.equal(minute.saved(folder), minute.saved(undisturbed))
    policies = [one / "policy" / "model.safetensors" for one in (folder, undisturbed)]
    assert policies[0].read_bytes() == policies[1].read_bytes()
    assert minute.losses(folder) == minute.losses(undisturbed)
    assert "nothing left to do: 150 steps are trained" in Run(folder, *OPTIONS, *LENGTH).text()


@pytest.mark.slow  # tests/test_trainer.py has the same without Ray
def test_two_workers_lose_their_driver_and_one_goes_on(home, undisturbed):
    folder = home / "two"
    run = Run(folder, *OPTIONS, *LENGTH, "--workers", "2")
    run.wait_for(20)
    assert len(run.workers()) == 2
    run.kill_driver()
    assert "trained to step 150" in Run(folder, *OPTIONS, *LENGTH, "--workers", "1").text()
    minute.equal(minute.saved(folder), minute.saved(undisturbed), 1e-3)
