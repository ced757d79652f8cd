"""Calls gathered from many requests: who waits for whom, who gets what, and what is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.batching import Batcher, Model
from robot.policy import Floats, PolicyError

LONG = 30.0
"""A cap that no test waits for."""


class Echo:
    """Answers with the number of each request, after some time, in a call of up to `batch`."""

    def __init__(self, batch: int, seconds: float = 0.0):
        self.batch, self._seconds = batch, seconds
        self.calls: list[list[int]] = []
        self.closed = self.computing = False

    def call(self, numbers: Sequence[int]) -> list[Floats | PolicyError]:
        assert not self.computing
        assert not self.closed
        self.computing = True
        self.calls.append(list(numbers))
        time.sleep(self._seconds)
        self.computing = False
        if 13 in numbers:
            raise RuntimeError("out of\nmemory")
        if 17 in numbers:
            raise PolicyError("no server")
        if 19 in numbers:
            return []
        return [PolicyError("not me") if n == 7 else np.full((2, 3), n) for n in numbers]

    def close(self) -> None:
        assert not self.computing
        self.closed = True


def made(policy: Echo, cap: float) -> Batcher[int, Floats]:
    return Batcher(Model(policy.call, policy.batch, policy.close), cap)


async def outcome(answer: Awaitable[Floats]) -> float | str:
    """What a request came to: the number that answers it, or what went wrong."""
    try:
        chunk = await answer
    except PolicyError as error:
        return str(error)
    assert chunk.shape == (2, 3)
    return float(chunk[0, 0])


def run(
    work: Callable[[Batcher[int, Floats]], Awaitable[None]], policy: Echo, cap: float = LONG
) -> Batcher[int, Floats]:
    async def main() -> Batcher[int, Floats]:
        batcher = made(policy, cap)
        try:
            async with asyncio.timeout(10):
                await work(batcher)
        finally:
            await batcher.close()
        return batcher

    return asyncio.run(main())


async def all_of(batcher: Batcher[int, Floats], numbers: Sequence[int]) -> list[float | str]:
    return await asyncio.gather(*(outcome(batcher.ask(n)) for n in numbers))


def test_full_batches_do_not_wait() -> None:
    policy = Echo(4)

    async def work(batcher: Batcher[int, Floats]) -> None:
        assert await all_of(batcher, range(20, 32)) == list(range(20, 32))

    batcher = run(work, policy)
    assert [len(call) for call in policy.calls] == [4, 4, 4]
    assert (batcher.counts.calls, batcher.counts.requests, batcher.counts.fill) == (3, 12, 1.0)
    assert policy.closed


def test_a_request_waits_for_the_cap_and_no_longer() -> None:
    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(2)
        begun = time.monotonic()
        assert await outcome(batcher.ask(1)) == 1
        assert 0.1 <= time.monotonic() - begun < 1

    batcher = run(work, Echo(4), cap=0.1)
    assert batcher.counts.fill == 0.25
    assert 0.1 <= batcher.counts.latency_max_s < 1


def test_the_cap_is_the_oldest_requests() -> None:
    """Each newcomer does not make the others wait anew."""
    policy = Echo(100)

    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(100)
        asked = []
        for number in range(20, 35):
            asked.append(asyncio.create_task(batcher.ask(number)))
            await asyncio.sleep(0.02)
        await asyncio.gather(*asked)

    run(work, policy, cap=0.1)
    assert len(policy.calls) >= 2


def test_nobody_waits_for_who_cannot_ask() -> None:
    """Three episodes in flight: when all three wait, they are answered, whatever the batch."""
    policy = Echo(8)

    async def episode(batcher: Batcher[int, Floats], first: int) -> None:
        for number in range(first, 38, 3):
            await batcher.ask(number)

    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(3)
        await asyncio.gather(*(episode(batcher, first) for first in (20, 21, 22)))

    begun = time.monotonic()
    run(work, policy)
    assert policy.calls == [[n, n + 1, n + 2] for n in range(20, 38, 3)]
    assert time.monotonic() - begun < 2


def test_an_episode_that_ends_is_no_longer_waited_for() -> None:
    policy = Echo(8)

    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(3)
        two = asyncio.gather(*(batcher.ask(n) for n in (1, 2)))
        await asyncio.sleep(0.05)
        assert policy.calls == []
        batcher.expect(2)
        await two

    run(work, policy)
    assert policy.calls == [[1, 2]]


def test_requests_gather_while_the_policy_computes() -> None:
    policy = Echo(4, seconds=0.1)

    async def work(batcher: Batcher[int, Floats]) -> None:
        first = asyncio.create_task(all_of(batcher, range(20, 24)))
        await asyncio.sleep(0.03)
        assert policy.computing
        rest = asyncio.create_task(all_of(batcher, range(24, 28)))
        await asyncio.sleep(0)
        assert await first == [20, 21, 22, 23]
        assert await rest == [24, 25, 26, 27]

    run(work, policy, cap=0.02)
    assert [len(call) for call in policy.calls] == [4, 4]


def test_errors_are_of_those_they_concern() -> None:
    policy = Echo(2)

    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(2)
        asked = [1, 7, 13, 3, 17, 4, 19, 5, 6, 8]
        assert await all_of(batcher, asked) == [
            *(1, "not me"),
            "the policy failed: RuntimeError: out of memory",
            3,  # in the same call
            *["no server"] * 2,
            *["0 answers to 2 requests"] * 2,
            *(6, 8),
        ]

    batcher = run(work, policy)
    assert (batcher.counts.calls, batcher.counts.requests, batcher.counts.errors) == (5, 10, 6)


def test_who_no_longer_waits_takes_no_place() -> None:
    policy = Echo(2)

    async def work(batcher: Batcher[int, Floats]) -> None:
        batcher.expect(2)
        gone = asyncio.create_task(batcher.ask(1))
        await asyncio.sleep(0.01)
        gone.cancel()
        assert await all_of(batcher, [2, 3]) == [2, 3]

    run(work, policy)
    assert policy.calls == [[2, 3]]


def test_closing_answers_all_who_wait() -> None:
    policy = Echo(2, seconds=0.1)

    async def main() -> list[float | str]:
        batcher = made(policy, LONG)
        batcher.expect(2)
        asked = asyncio.create_task(all_of(batcher, [1, 2, 3]))
        await asyncio.sleep(0.03)
        assert policy.computing
        await batcher.close()
        return await asked

    found = asyncio.run(asyncio.wait_for(main(), 10))
    assert found == [1, 2, "the policy was closed"]  # the call under way has its answers
    assert policy.closed


@given(
    batch=st.integers(1, 6),
    waits=st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 0.003]), max_size=4), min_size=1, max_size=8
    ),
    known=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_every_request_has_its_own_answer_once(
    batch: int, waits: list[list[float]], known: bool
) -> None:
    policy = Echo(batch)
    numbers = iter([n for n in range(40) if n not in (7, 13, 17, 19)])
    episodes = [[(wait, next(numbers)) for wait in each] for each in waits]
    left = len(episodes)

    async def episode(batcher: Batcher[int, Floats], asks: list[tuple[float, int]]) -> None:
        nonlocal left
        for wait, number in asks:
            await asyncio.sleep(wait)
            assert await outcome(batcher.ask(number)) == number
        left -= 1
        if known:
            batcher.expect(left)

    async def work(batcher: Batcher[int, Floats]) -> None:
        if known:
            batcher.expect(left)
        await asyncio.gather(*(episode(batcher, asks) for asks in episodes))

    batcher = run(work, policy, cap=LONG if known else 0.002)
    answered = [number for call in policy.calls for number in call]
    assert sorted(answered) == sorted(number for asks in episodes for _, number in asks)
    assert all(1 <= len(call) <= batch for call in policy.calls)
    counts = batcher.counts
    assert (counts.calls, counts.requests) == (len(policy.calls), len(answered))
    assert counts.errors == 0
