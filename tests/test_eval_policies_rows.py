"""A checkpoint's answers, to the bit: whatever is asked beside a request, wherever it stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sim_eval.policies import Compute, named, open_batch
from sim_eval.policies.checkpoint import CheckpointPolicy, _spare
from sim_eval.policy import PolicyError, Request
from sim_eval.suite import Floats
from sim_eval.suite import Suite as AnySuite
from tests import eval_policy_files as files
from tests.eval_policy_files import Robot, Suite, requests
from tests.pi0_models import MINUTE
from training import policy_folder
from training.pi0.config import SIZES, GemmaSize, Pi0Config, SiglipSize

WIDE = replace(
    SIZES["small"],
    vision=SiglipSize(width=384, depth=1, mlp=1536, heads=6, image=56),
    depth=2,
    vocabulary=300,
    horizon=11,
)
"""As wide as `small`, but not as deep."""
MODELS: dict[str, Pi0Config] = {
    "minute": MINUTE,
    "odd": replace(
        MINUTE, horizon=7, action_size=9, expert=GemmaSize(width=24, mlp=44), text_tokens=13
    ),
    "pi05": replace(MINUTE, pi05=True, text_tokens=40),
    "tiny": SIZES["tiny"],
    "wide": WIDE,
}


def opened(
    folder: Path, model: Pi0Config, batch: int, suite: AnySuite | None = None
) -> CheckpointPolicy:
    place = folder / "policy"
    if not place.exists():
        files.save(place, model)
    policy = open_batch(named(str(place), Compute(batch=batch)), suite or Suite())
    assert isinstance(policy, CheckpointPolicy)
    assert policy.batch == batch
    return policy


def chunk(answer: Floats | PolicyError) -> Floats:
    assert not isinstance(answer, PolicyError), answer
    return answer


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("threads", "batch"), [(1, 3), (1, 8), (2, 5)])
def test_answers_do_not_depend_on_the_batch(
    tmp_path: Path, model: str, threads: int, batch: int
) -> None:
    if (model, batch) in [("tiny", 8), ("wide", 8)]:
        batch = 4  # for time's sake
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _independent(opened(tmp_path, MODELS[model], batch), requests(batch + 1))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def _independent(policy: CheckpointPolicy, asked: list[Request]) -> None:
    """A request by itself and in all positions, among others, in calls of all sizes; and so the
    others, now and then."""
    first = {asked[0].episode: chunk(policy.act(asked[:1])[0])}
    chance = np.random.default_rng(0)
    calls = [(policy.batch, place) for place in range(policy.batch)]
    calls += [(count, count // 2) for count in range(2, policy.batch)]
    for count, place in calls:
        beside = [asked[1 + n] for n in chance.permutation(len(asked) - 1)[: count - 1]]
        some = [*beside[:place], asked[0], *beside[place:]]
        for request, answer in zip(some, policy.act(some), strict=True):
            known = first.setdefault(request.episode, chunk(answer))
            np.testing.assert_array_equal(chunk(answer), known)
    assert len({answer.tobytes() for answer in first.values()}) == len(asked)


def _in_every_row(policy: CheckpointPolicy, asked: list[Request]) -> list[bool]:
    """Whether the answer to a request is the same in every row, for each of those asked."""
    found: dict[str, list[Floats]] = {}
    for turn in range(policy.batch):
        some = [*asked[turn : policy.batch], *asked[:turn]]
        for request, answer in zip(some, policy.act(some), strict=True):
            found.setdefault(request.episode, []).append(chunk(answer))
    return [all((one == answers[0]).all() for one in answers) for answers in found.values()]


@pytest.mark.parametrize("batch", [5, 7])
def test_a_last_bit_of_few_numbers_is_not_left_to_chance(tmp_path: Path, batch: int) -> None:
    """Rows of an odd size, whose end a kernel computes by other instructions: a random request
    seldom shows it, sixty do; and without the spare rows they would."""
    policy = opened(tmp_path, MODELS["odd"], batch)
    sets = [requests(batch * 8)[begin::8] for begin in range(8)]
    assert policy.spare > 0
    assert all(all(_in_every_row(policy, asked)) for asked in sets)
    policy.rows, policy.spare = batch, 0
    if all(all(_in_every_row(policy, asked)) for asked in sets):
        pytest.skip("on this computer rows give the same bits without spare ones")


def test_sizes_that_fill_vectors_need_no_spare_rows() -> None:
    assert {name: _spare(config) for name, config in SIZES.items()} == dict.fromkeys(SIZES, 0)
    assert _spare(MODELS["odd"]) == 2  # 16 numbers are the fewest of a row


def test_answers_are_the_policys(tmp_path: Path) -> None:
    """But for rounding, those of the policy that is asked by itself."""
    policy = opened(tmp_path, MINUTE, 4)
    asked = requests(3)
    one = policy_folder.load(tmp_path / "policy")
    for request, answer in zip(asked, policy.act(asked), strict=True):
        seen = request.observation
        noise = request.generator().standard_normal((1, 5, 10), np.float32)[0]
        expected = one.act(seen.images, seen.instruction, seen.state, noise)
        assert chunk(answer).shape == (5, 5)
        np.testing.assert_allclose(chunk(answer), expected, rtol=1e-4, atol=1e-5)


def test_chance_is_of_the_episode_and_the_step(tmp_path: Path) -> None:
    policy = opened(tmp_path, MINUTE, 4)
    (request,) = requests(1)
    again, later, other = policy.act(
        [request, request._replace(step=1), request._replace(episode="another")]
    )
    np.testing.assert_array_equal(chunk(again), chunk(policy.act([request])[0]))
    assert not np.allclose(chunk(later), chunk(again))
    assert not np.allclose(chunk(other), chunk(again))


def test_the_same_policy_opened_again(tmp_path: Path) -> None:
    asked = requests(3)
    answers = [opened(tmp_path, MINUTE, 3).act(asked) for _ in range(2)]
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(chunk(one), chunk(other))


@pytest.mark.parametrize("model", ["minute", "wide"])
def test_threads_of_the_process_do_not_matter(tmp_path: Path, model: str) -> None:
    before = torch.get_num_threads()
    asked = requests(3)
    answers = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(opened(tmp_path, MODELS[model], 3).act(asked))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(chunk(one), chunk(other))


def test_one_bad_observation_is_nobody_elses(tmp_path: Path) -> None:
    policy = opened(tmp_path, MINUTE, 4)
    good, bad, also = requests(3)
    blind = bad._replace(observation=bad.observation._replace(images={}))
    torn = bad._replace(observation=bad.observation._replace(state=np.full(4, np.nan)))
    answers = policy.act([good, blind, torn, also])
    for answer, said in ((answers[1], "no camera"), (answers[2], "4 finite numbers")):
        assert isinstance(answer, PolicyError)
        assert said in str(answer)
    for request, answer in ((good, answers[0]), (also, answers[3])):
        np.testing.assert_array_equal(chunk(answer), chunk(policy.act([request])[0]))


def test_only_cameras_of_both_are_shown(tmp_path: Path) -> None:
    """A policy of three cameras, a suite with one of them and one that it does not know."""
    files.save(tmp_path / "policy", MINUTE, [Robot(cameras=("base_0_rgb", "right_wrist_0_rgb"))])
    suite = Suite(cameras=("base_0_rgb", "left_wrist_0_rgb"))
    policy = opened(tmp_path, MINUTE, 2, suite)
    (both,) = requests(1, suite)
    images = {"base_0_rgb": both.observation.images["base_0_rgb"]}
    one = both._replace(observation=both.observation._replace(images=images))
    np.testing.assert_array_equal(chunk(policy.act([both])[0]), chunk(policy.act([one])[0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", ["tiny", "wide"])
@pytest.mark.parametrize("half", [False, True])
def test_answers_do_not_depend_on_the_batch_on_a_gpu(
    tmp_path: Path, model: str, half: bool
) -> None:
    files.save(tmp_path / "policy", MODELS[model])
    how = Compute(batch=5, device="cuda", half=half)
    policy = open_batch(named(str(tmp_path / "policy"), how), Suite())
    assert isinstance(policy, CheckpointPolicy)
    assert policy.rows > 1
    _independent(policy, requests(7))
