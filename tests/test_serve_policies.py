"""Checkpoints that are served: clients apart, whoever else asks; names and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ego_ops.errors import UserError
from robot.policy import Answer, PolicyError, Request
from tests import eval_policy_files, minute_training
from training import policy_folder
from training.policy import Sight
from workflows.served import Served, named, opened, stamp
from workflows.served_checkpoint import CheckpointPolicy, generator, sizes

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
_CHANCE = np.random.default_rng(0)
BASE, LEFT = (_CHANCE.integers(0, 256, (40, 48, 3), np.uint8) for _ in range(2))
STATE = _CHANCE.normal(size=8).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    robot = eval_policy_files.Robot("arm", 8, 7, CAMERAS)
    place = tmp_path_factory.mktemp("run") / "policy"
    return eval_policy_files.save(place, minute_training.MODEL, [robot])


def request(client: str, text: str = "lift") -> Request:
    message = {
        "observation/image": BASE,
        "observation/wrist_image": LEFT,
        "observation/state": STATE,
        "prompt": text,
    }
    return Request(message, client, False)


def actions(answer: Answer | PolicyError) -> np.ndarray:
    assert isinstance(answer, Answer), answer
    return answer.actions


def test_answers_are_the_checkpoints_whoever_else_asks(folder: str) -> None:
    served = CheckpointPolicy(folder, "libero", batch=3)
    pi0 = policy_folder.load(folder)
    config = pi0.model.config

    def truth(client: str, asked: int, text: str) -> np.ndarray:
        shape = config.horizon, config.action_size
        noise = generator(client, asked).standard_normal(shape, np.float32)
        images = {"base_0_rgb": BASE, "left_wrist_0_rgb": LEFT}
        return pi0.act_many([Sight(images, text, STATE)], noise[None])[0]

    alone = actions(*served.infer([request("a")]))
    np.testing.assert_allclose(alone, truth("a", 0, "lift"), atol=1e-5)
    both = [request("b", "push it over there"), request("a")]
    found = [actions(answer) for answer in served.infer(both)]
    np.testing.assert_allclose(found[0], truth("b", 0, "push it over there"), atol=1e-5)
    np.testing.assert_allclose(found[1], truth("a", 1, "lift"), atol=1e-5)
    assert np.abs(found[1] - alone).max() > 1e-3  # other noise
    served.forget("a")
    np.testing.assert_allclose(actions(*served.infer([request("a")])), alone, atol=1e-5)
    served.close()


def test_a_prefix_is_gone_on_from(folder: str) -> None:
    """Real-time chunking, beside a client that has no prefix; a prefix of others' actions is
    refused."""
    served = CheckpointPolicy(folder, "libero", batch=3)
    assert served.metadata["egoscaler"]["features"] == ["prefix"]
    (free,) = (actions(answer) for answer in served.infer([request("a")]))
    served.forget("a")
    wanted = free[:4] + 0.3
    led = request("a")._replace(prefix=wanted.astype(np.float64), delay=2)
    wrong = request("c")._replace(prefix=wanted[:, :3], delay=1)
    found, alone, refused = served.infer([led, request("b"), wrong])
    assert isinstance(refused, PolicyError)
    assert refused.code == "bad_request"
    off = np.abs(actions(found)[:2] - wanted[:2]).mean()
    assert off < 0.5 * np.abs(free[:2] - wanted[:2]).mean()
    served.forget("b")
    np.testing.assert_allclose(actions(alone), actions(*served.infer([request("b")])), atol=1e-4)


def test_a_bad_request_costs_nobody_else_anything(folder: str) -> None:
    served = CheckpointPolicy(folder, "libero", batch=3)
    wanted = actions(*CheckpointPolicy(folder, "libero", batch=3).infer([request("a")]))
    bad = request("b")._replace(observation={"prompt": "lift"})
    error, good, other = served.infer([bad, request("a"), bad])
    assert isinstance(error, PolicyError)
    assert isinstance(other, PolicyError)
    assert error.code == "bad_request"
    np.testing.assert_allclose(actions(good), wanted, atol=1e-5)
    (alone,) = served.infer([bad])
    assert isinstance(alone, PolicyError)


def test_cameras_that_are_not_there_are_not_seen(folder: str) -> None:
    """One of two cameras, beside a request with both: as if it were alone."""
    served = CheckpointPolicy(folder, "ours", batch=2)
    told = {"observation/images/base_0_rgb": BASE, "observation/state": STATE, "prompt": "lift"}
    both = {**told, "observation/images/left_wrist_0_rgb": LEFT}
    one, two = Request(told, "a", False), Request(both, "b", False)
    found = [actions(answer) for answer in served.infer([one, two])]
    served.forget("a")
    np.testing.assert_allclose(actions(*served.infer([one])), found[0], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_actions_that_are_not_finite_are_an_error(folder: str) -> None:
    served = CheckpointPolicy(folder, "libero", batch=2)
    with torch.no_grad():
        served._pi0.model.action_out_proj.bias.fill_(float("nan"))
    (answer,) = served.infer([request("a")])
    assert isinstance(answer, PolicyError)
    assert answer.code == "policy_error"


def test_rows_of_graphs() -> None:
    assert [sizes(batch) for batch in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_names(folder: str, tmp_path: Path) -> None:
    how = Served("", "expert", observation="libero")
    assert named("expert", how).kind == "expert"
    run, policy = str(Path(folder).parent), folder
    for name in (run, policy):
        found = named(name, how)
        assert (found.kind, found.folder, found.source) == ("checkpoint", policy, "arm")
    for name, said in {
        str(tmp_path): "neither a run nor a policy",
        "exprt": "did you mean expert?",
        "tests.points:Nothing": "cannot load it .AttributeError",
        "no_such_module:Policy": "cannot load it .ModuleNotFoundError",
    }.items():
        with pytest.raises(UserError, match=said):
            opened(named(name, how))


def test_a_policy_that_was_replaced_has_another_stamp(folder: str, tmp_path: Path) -> None:
    robot = eval_policy_files.Robot("arm", 8, 7, CAMERAS)
    place = tmp_path / "policy"
    eval_policy_files.save(place, minute_training.MODEL, [robot])
    served = named(str(place), Served("", "expert", observation="libero"))
    policy, first = opened(served)
    assert first == stamp(served)
    assert isinstance(policy, CheckpointPolicy)
    eval_policy_files.save(place, minute_training.MODEL, [robot])
    assert stamp(served) != first
