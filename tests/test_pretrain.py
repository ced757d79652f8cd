"""`egoscaler train`: what it is told, what it refuses, and errors of its workers."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ego_ops.errors import UserError
from tests import minute_training as minute
from tests import shard_files
from training import policy_folder, run_folder
from training.config import CONFIGS, SourceConfig, get
from training.data.sources import open_sources
from training.log import Log
from training.options import changed
from training.pi0.config import SIZES
from training.saved import Saver
from training.saved_files import completed
from workflows.pretrain import PretrainConfig, configured, crew, run
from workflows.train_progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def job(home: Path, *options: str, **flags: object) -> PretrainConfig:
    """A run of seconds, of three checkpoints."""
    given = minute.options(home)
    config = PretrainConfig(
        config="pi0_tiny",
        data=given[given.index("--data") + 1],
        out=str(home / "run"),
        batch=8,
        steps=30,
        cpus_per_worker=1,
        option=(*given[given.index("--option") + 1 :], "save_every=10", *options),
    )
    return replace(config, **flags)


def test_options_change_fields():
    tiny = get("pi0_tiny")
    new = changed(
        tiny,
        [
            "steps=7",
            "optimiser.peak=1e-4",
            "optimiser.betas=[0.8, 0.9]",
            "optimiser.ema=null",
            'freeze=["vision"]',
            "augment=false",
            "loss=padded",
            "optimiser.warmup=0",
            "initial=some=where",
            "keep_every=null",
            "model=small",
            "model.depth=3",
            "sources.shards.weight=2",
            "sources.shards.selection=7",
        ],
    )
    assert (new.steps, new.loss, new.augment, new.freeze) == (7, "padded", False, ("vision",))
    assert (new.initial, new.keep_every) == ("some=where", None)
    assert (new.optimiser.peak, new.optimiser.betas) == (1e-4, (0.8, 0.9))
    assert (new.optimiser.ema, new.optimiser.warmup) == (None, 0)
    assert new.model == replace(SIZES["small"], depth=3)
    assert new.sources == (replace(tiny.sources[0], weight=2.0, selection="7"),)
    assert tiny == CONFIGS["pi0_tiny"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("steps", "not of the form field=value"),
        ("step=3", "no such field as step; did you mean steps"),
        ("steps=3.5", "the value must be int"),
        ("steps=many", "the value must be int"),
        ("augment=1", "the value must be bool"),
        ("optimiser.peak=high", "the value must be float"),
        ("optimiser.betas=[0.9]", r"the value must be tuple\[float, float\]"),
        ("optimiser=3", "optimiser: name a field of it"),
        ("steps.x=3", "steps: it has no fields"),
        ("model=huge", "no such field as huge"),
        ("sources.bridge.weight=2", "no such field as bridge; there are shards"),
        ("sources.shards=2", "name a field of the source"),
    ],
)
def test_options_that_do_not_fit(option, said):
    with pytest.raises(UserError, match=said) as caught:
        changed(get("pi0_tiny"), [option])
    assert str(caught.value).startswith(f"--option {option}: ")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("steps=0", "steps 0: must be at least 1"),
        ("batch=-4", "batch -4: must be at least 1"),
        ("accumulate=0", "accumulate 0: must be at least 1"),
        ("save_every=0", "save_every 0: must be at least 1"),
        ("seed=-1", "seed -1: must be at least 0 and less than"),
        ("held_out=1", "held_out 1.0: must be at least 0 and less than 1"),
        ("held_out=NaN", "held_out nan: must be"),
        ("optimiser.ema=1.5", "optimiser.ema 1.5: must be at least 0 and less than 1"),
        ("optimiser.clip=0", "optimiser.clip 0.0: must be more than 0"),
        ("optimiser.peak=NaN", "optimiser.peak nan: must be more than 0 and finite"),
        ("optimiser.peak=Infinity", "optimiser.peak inf: must be more than 0 and finite"),
        ("optimiser.betas=[0.9,1]", "optimiser.betas 1.0: must be at least 0 and less than 1"),
        ("lora=4096", "lora 4096: must be at least 1 and at most 1024"),
        ("loss=foo", "loss foo: no such choice; there are real, padded"),
        ("precision=fp8", "precision fp8: no such choice"),
        ("parallel=fspd", "parallel fspd: no such choice; did you mean fsdp"),
        ('freeze=["vision","language","expert"]', "freeze: all parts are frozen"),
        ("model.horizon=0", "model.horizon 0: must be at least 1"),
        ("model.head_size=15", "model.head_size 15: must be a multiple of 2"),
        ("model.kv_heads=3", "model.heads 4: must be a multiple of model.kv_heads 3"),
        ("model.vision.patch=13", "model.vision.image 112: must be a multiple of"),
        ("sources.shards.weight=0", "sources.shards.weight 0.0: must be more than 0"),
        ("sources.shards.smooth=2", "sources.shards.smooth 2: must be an odd number"),
        ("sources.shards.name=../x", "names a file"),
    ],
)
def test_values_that_training_cannot_use(option, said):
    with pytest.raises(UserError, match=re.escape(said)):
        configured(PretrainConfig("pi0_tiny", option=(option,)))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"workers": 0}, "--workers 0: must be at least 1"),
        ({"cpus_per_worker": -1}, "--cpus-per-worker -1: must be at least 1"),
        ({"restarts": -1}, "--restarts -1: must be at least 0"),
    ],
)
def test_numbers_of_workers_that_make_no_sense(tmp_path, field, said):
    with pytest.raises(UserError, match=said):
        run(PretrainConfig("pi0_tiny", out=str(tmp_path / "run"), **field))


def test_all_configurations_make_sense():
    for name in CONFIGS:
        configured(PretrainConfig(name, option=("optimiser.clip=Infinity", "held_out=0")))


def test_flags_stand_for_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = configured(
        PretrainConfig(
            "pi0_ego_bridge", data="s3://b/shards", robot_data=("bridge=br",), steps=5, batch=64
        )
    )
    assert [source.path for source in found.sources] == ["s3://b/shards", str(tmp_path / "br")]
    assert (found.steps, found.batch, found.name) == (5, 64, "pi0_ego_bridge")
    with pytest.raises(UserError, match=r"--robot-data droid: .* there are bridge"):
        configured(PretrainConfig("pi0_ego_bridge", robot_data=("droid=x",)))
    with pytest.raises(UserError, match="--robot-data x: not of the form name=DIR"):
        configured(PretrainConfig("pi0_ego_bridge", robot_data=("x",)))
    with pytest.raises(UserError, match=r"--config pi0_eg: .* did you mean pi0_ego"):
        configured(PretrainConfig("pi0_eg"))


def test_workers_are_those_that_there_is_room_for(capsys):
    gpus = [{"CPU": 16.0, "GPU": 4.0}] * 2
    cores = os.cpu_count() or 1
    assert crew(PretrainConfig(), gpus, True) == (8, 4, 1)
    assert crew(PretrainConfig(workers=4), gpus, True) == (4, 8, 1)
    assert crew(PretrainConfig(gpus_per_worker=0), gpus, True) == (1, 16, 0)
    assert crew(PretrainConfig(), [{"CPU": 64.0}], False) == (1, min(64, cores), 0.0)
    with pytest.raises(UserError, match=r"room for 8 of 9 workers .* change --workers"):
        crew(PretrainConfig(workers=9, cpus_per_worker=1), gpus, False)
    assert crew(PretrainConfig(workers=9, cpus_per_worker=1), gpus, True) == (9, 1, 1)
    assert "room for 8 of 9 workers" in capsys.readouterr().out


def test_a_folder_is_bound_to_its_run(tmp_path):
    """What may change may change; all else is refused before anything is started, and named."""
    config = minute.config(tmp_path)
    folder = tmp_path / "run"

    def sources(path: str = config.sources[0].path) -> list:
        return open_sources((SourceConfig(path),), config.model.horizon, "train", 0.2)

    run_folder.bind(folder, replace(config, batch=16), sources())
    run_folder.bind(folder, config, sources())  # nothing is trained yet
    saver = Saver(folder, 1, None, torch.device("cpu"))
    saver.save(1, {"weights.a": torch.zeros(3)})
    saver.wait()
    before = (folder / "run.json").read_bytes()
    free = replace(config, steps=99, save_every=1, keep=5, log_every=2, validate_every=7)
    moved = shutil.copytree(tmp_path / "shards", tmp_path / "moved")
    run_folder.bind(folder, replace(free, sources=(SourceConfig(str(moved)),)), sources(str(moved)))
    run_folder.bind(folder, config, sources())
    assert (folder / "run.json").read_bytes() == before

    for other, said in (
        (replace(config, batch=16), "batch 8 there, 16 now"),
        (replace(config, seed=1), "seed 42 there, 1 now"),
        (replace(config, model=replace(config.model, depth=3)), "model.depth 2 there, 3 now"),
        (
            replace(config, optimiser=replace(config.optimiser, peak=1.0)),
            r"optimiser.peak 0.001 there, 1.0 now",
        ),
        (replace(config, sources=config.sources * 2), "sources.1.kind None there, 'shards' now"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            run_folder.bind(folder, other, sources())
        assert "use another --out" in str(caught.value)
    shard_files.simple(str(tmp_path / "other"), parts=2)
    with pytest.raises(UserError, match="the data of source shards are not those it had"):
        run_folder.bind(folder, config, sources(str(tmp_path / "other")))
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "not a JSON object"), ("null", "not a JSON object"), ('{"version": 1}', "damaged")],
)
def test_a_damaged_run_file_is_said(tmp_path, text, said):
    config = minute.config(tmp_path)
    sources = open_sources(config.sources, config.model.horizon)
    (tmp_path / run_folder.FILE).write_text(text)
    with pytest.raises(UserError, match=said):
        run_folder.bind(tmp_path, config, sources)


@pytest.mark.parametrize(
    "text", ["[]", '{"version": 1}', '{"version": 1, "trained": {"steps": "x"}}']
)
def test_a_damaged_policy_file_is_said(tmp_path, text):
    (tmp_path / run_folder.POLICY).mkdir()
    (tmp_path / run_folder.POLICY / run_folder.POLICY_CONFIG).write_text(text)
    with pytest.raises(UserError, match=r"not a JSON object|not that of a policy"):
        run_folder.trained(tmp_path)


def test_one_command_at_a_time(tmp_path):
    from ego_ops.storage import store

    with (
        store(str(tmp_path / "run")).lock("lock", "taken"),
        pytest.raises(UserError, match="another command trains there now"),
    ):
        run(job(tmp_path))


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_with_sharded_weights(tmp_path, capsys):
    policy = run(job(tmp_path, "parallel=fsdp", "log_every=1", workers=2))
    out = capsys.readouterr().out
    assert re.search(r"trained to step 30 in \d+:\d\d;", out)
    assert str(policy) in out
    assert "step 30/30, loss " in out
    assert " samples/s" in out
    assert [one.step for one in completed(tmp_path / "run")] == [30, 20]
    assert len(list(completed(tmp_path / "run")[0].path.glob("*.distcp"))) == 2
    found = minute.losses(tmp_path / "run")
    assert list(found) == list(range(1, 31))
    assert policy_folder.load(policy).trained["steps"] == 30

    assert run(job(tmp_path, workers=2)) == policy
    assert "nothing left to do: 30 steps are trained" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"has a run of another configuration \(seed 42 there, 1 now\)"
    ):
        run(job(tmp_path, "seed=1"))


@pytest.mark.usefixtures("ray_cluster")
def test_a_workers_error_is_its_own_line(tmp_path, capsys):
    with pytest.raises(UserError, match="a batch of 8 cannot be shared by 3 workers"):
        run(job(tmp_path, workers=3))
    with pytest.raises(UserError, match=r"^step \d+: the norm of the gradient is") as caught:
        run(job(tmp_path, "optimiser.peak=1e30"))
    assert "\n" not in str(caught.value)
    assert "workers were lost" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_always_fail_are_given_up(tmp_path, capsys):
    """An error that is none of ours may pass, as that of a lost peer: not for ever."""
    # An odd size of heads passes every check, and fails in the model.
    with pytest.raises(
        UserError, match="workers failed 2 times without a new checkpoint"
    ) as caught:
        run(job(tmp_path, "model.head_size=15", restarts=1))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out.count("workers were lost") == 1
    assert "Traceback" in (tmp_path / "run" / "failure.txt").read_text()


def test_progress_follows_a_log_that_is_written_anew(tmp_path, capsys):
    def said() -> list[str]:
        progress.look()
        progress.close()
        return capsys.readouterr().out.splitlines()

    config = replace(get("pi0_tiny"), steps=100, batch=10)
    numbers = {"loss": 0.5, "samples_per_s": 20.0}
    progress = Progress(tmp_path, config)
    with Log(tmp_path) as log:
        log.write(10, numbers)
        assert said() == ["step 10/100, loss 0.5, 20 samples/s, 0:45 to go"]
        log.write(20, {"validation/loss": 2.0, "validation/shards/loss": 2.0, "validation/x": None})
        log.write(40, numbers)
        assert said() == [
            "step 20: validation/loss 2",
            "step 40/100, loss 0.5, 20 samples/s, 0:30 to go",
        ]
    with Log(tmp_path, resume_step=20) as log:
        log.write(20, {"warning": "a checkpoint is damaged"})
        log.write(30, numbers)
        assert said() == ["warning: a checkpoint is damaged"]  # 30 was said before
        log.write(100, numbers)
        assert said() == ["step 100/100, loss 0.5, 20 samples/s"]
    assert said() == []
    progress = Progress(tmp_path, config, begin=100)
    assert said() == []
