"""Whose request is answered when: batches, turns, deadlines, and a policy that is replaced."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

pytest.importorskip("openpi_client")
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from ego_ops.errors import UserError
from robot.server import Limits
from tests.robot_server_running import Play, Raw, Running, until

pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")


def held(policy: Play, client: Raw, id: int = 0) -> None:
    """Have the policy compute, until its gate opens."""
    policy.computing.clear()
    policy.gate.clear()
    client.say(id, x=0)
    assert policy.computing.wait(20)


def waiting(running: Running, count: int) -> None:
    until(lambda: running.metric("egoscaler_queue") == count)


def test_requests_of_a_call_gather_while_another_computes() -> None:
    policy = Play(batch=4)
    with Running(policy) as running, ExitStack() as stack:
        clients = [stack.enter_context(Raw(running)) for _ in range(7)]
        held(policy, clients[0])
        for number, client in enumerate(clients[1:], 1):
            client.say(number, x=number)
        waiting(running, 6)
        policy.gate.set()
        assert [client.told() for client in clients] == [(n, float(n)) for n in range(7)]
        assert [len(call) for call in policy.calls] == [1, 4, 2]
        assert running.metric('egoscaler_batch_requests_bucket{le="1"}') == 1
        assert running.metric("egoscaler_batch_requests_sum") == 7


def test_one_clients_error_is_no_one_elses() -> None:
    """Not even in the same call, where the policy raises for all."""
    policy = Play(batch=4)
    with Running(policy) as running, ExitStack() as stack:
        first, bad, good, theirs = (stack.enter_context(Raw(running)) for _ in range(4))
        held(policy, first)
        bad.say(1, do="raise")
        good.say(2, x=2)
        theirs.say(x=3)
        waiting(running, 3)
        policy.gate.set()
        assert first.told() == (0, 0.0)
        assert bad.told() == (1, "policy_error")
        assert good.told() == (2, 2.0)
        assert theirs.hear()["actions"][0, 0] == 3
        assert [len(call) for call in policy.calls] == [1, 3, 1, 1, 1]


def test_a_lone_client_waits_for_nobody() -> None:
    """Even with a budget of seconds, and others who are connected or have once asked."""
    policy = Play(batch=8)
    with Running(policy, budget_ms=5000) as running, Raw(running) as one, Raw(running) as other:
        begun = time.monotonic()
        other.say(1, x=1)
        assert other.told() == (1, 1.0)
        for number in range(5):
            one.say(number, x=number)
            assert one.told() == (number, float(number))
        assert time.monotonic() - begun < 4


def test_who_asks_again_at_once_is_waited_for() -> None:
    """Two clients that come to ask in turns are answered together from then on."""
    policy = Play(batch=8, seconds=0.05)
    with Running(policy, budget_ms=1000) as running:

        def ask() -> None:
            client = WebsocketClientPolicy("127.0.0.1", running.port)
            for number in range(10):
                client.infer({"x": number})
            client._ws.close()

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    together = sum(len(call) == 2 for call in policy.calls)
    assert together >= 7


def test_one_client_with_many_ids_crowds_nobody_out() -> None:
    policy = Play(batch=2)
    with Running(policy) as running, ExitStack() as stack:
        greedy, *modest = (stack.enter_context(Raw(running)) for _ in range(4))
        held(policy, greedy, 100)
        for number in range(7):
            greedy.say(number, x=50 + number)
        waiting(running, 7)
        for number, client in enumerate(modest, 1):
            client.say(number, x=number)
        waiting(running, 10)
        policy.gate.set()
        assert [client.told() for client in modest] == [(n, float(n)) for n in (1, 2, 3)]
        assert [greedy.told()[1] for _ in range(8)] == [0.0, *(50.0 + n for n in range(7))]
    order = [request.observation["x"] for call in policy.calls[1:] for request in call]
    assert max(order.index(number) for number in (1, 2, 3)) <= 3


def test_busy_beyond_the_requests_in_flight() -> None:
    policy = Play()
    with Running(policy, limits=Limits(in_flight=2)) as running, Raw(running) as client:
        held(policy, client)
        for number in (1, 2, 3):
            client.say(number, x=number)
        assert [client.told(), client.told()] == [(2, "busy"), (3, "busy")]
        policy.gate.set()
        assert [client.told(), client.told()] == [(0, 0.0), (1, 1.0)]


def test_openpis_requests_are_answered_in_order_however_many() -> None:
    policy = Play(batch=3, seconds=0.002)
    with Running(policy, limits=Limits(in_flight=2)) as running, Raw(running) as client:
        for number in range(12):
            client.say(x=number)
        answers = [client.hear()["actions"][0, 0] for _ in range(12)]
    np.testing.assert_array_equal(answers, np.arange(12))


def test_deadlines() -> None:
    """What is late is told at its deadline, not when the policy is free, and never computed."""
    policy = Play(batch=4)
    with Running(policy) as running, Raw(running) as client:
        client.say(1, {"deadline_ms": 10_000}, x=1)
        assert client.told() == (1, 1.0)
        held(policy, client, 2)
        client.say(3, {"deadline_ms": 30.0}, x=3)
        client.say(4, {"deadline_ms": 60_000}, x=4)
        begun = time.monotonic()
        assert client.told() == (3, "deadline")
        assert 0.02 < time.monotonic() - begun < 10
        policy.gate.set()
        assert [client.told(), client.told()] == [(2, 0.0), (4, 4.0)]
        policy.gate.clear()
        client.say(5, {"deadline_ms": 50}, x=5)  # the answer comes too late
        assert client.told() == (5, "deadline")
        policy.gate.set()
        client.say(6, x=6)
        assert client.told() == (6, 6.0)
        assert running.metric('egoscaler_requests_total{code="deadline"}') == 2
    computed = [request.observation["x"] for call in policy.calls for request in call]
    assert Counter(computed) == Counter([1, 0, 4, 5, 6])


def test_who_has_gone_takes_no_place() -> None:
    policy = Play(batch=2)
    with Running(policy) as running, Raw(running) as client:
        held(policy, client)
        with Raw(running) as gone:
            gone.say(9, x=9)
            waiting(running, 1)
        waiting(running, 0)
        client.say(1, x=1)
        waiting(running, 1)
        policy.gate.set()
        assert [client.told(), client.told()] == [(0, 0.0), (1, 1.0)]
        until(lambda: len(policy.forgotten) == 1)
    assert all(request.observation["x"] != 9 for call in policy.calls for request in call)


def test_replaced_without_dropping_a_connection() -> None:
    old, new = Play(batch=1, name="old"), Play(batch=8, name="new")
    with Running(old) as running, Raw(running) as client:
        held(old, client)
        client.say(1, x=1)
        waiting(running, 1)
        replacing = running.begin(running.server.replace(new))
        until(lambda: running.server._shared.policy is new)
        assert not replacing.done()
        assert not old.closed.is_set()
        old.gate.set()
        assert [client.told(), client.told()] == [(0, 0.0), (1, 1.0)]
        replacing.result(20)
        assert old.closed.is_set()
        assert ([len(old.calls), len(new.calls)], old.threads) == ([1, 1], new.threads)
        with Raw(running) as other:
            assert other.metadata["policy"] == "new"
            assert other.metadata["egoscaler"]["batch"] == 8
        assert running.metric("egoscaler_ready") == 1
    assert new.closed.is_set()


def test_replaced_policy_is_let_go() -> None:
    """Two do not fit into a GPU's memory for long."""
    with Running(Play()) as running, Raw(running) as client:
        client.say(1, x=1)
        assert client.told() == (1, 1.0)
        kept = weakref.ref(running.policy)
        running.policy = None
        running.do(running.server.replace(Play()))
        client.say(2, x=2)
        assert client.told() == (2, 2.0)
        gc.collect()
        assert kept() is None


def test_metadata_that_cannot_be_sent_leaves_the_old_policy() -> None:
    odd = Play()
    odd.metadata = {"what": object()}
    with Running(Play()) as running, Raw(running) as client:
        with pytest.raises(UserError, match="object has no form in the protocol"):
            running.do(running.server.replace(odd))
        client.say(1, x=1)
        assert client.told() == (1, 1.0)


def test_no_policy_for_the_moment() -> None:
    """openpi's clients, who know no such error, wait."""
    old, new = Play(), Play()
    with Running(old) as running, Raw(running) as client, Raw(running) as theirs:
        running.do(running.server.replace(None))
        assert old.closed.is_set()
        assert running.get("/readyz")[0] == 503
        client.say(1, x=1)
        assert client.told() == (1, "reloading")
        theirs.say(x=2)
        waiting(running, 1)
        running.do(running.server.replace(new))
        assert theirs.hear()["actions"][0, 0] == 2
        client.say(3, x=3)
        assert client.told() == (3, 3.0)


def test_draining_answers_what_is_under_way() -> None:
    policy = Play(batch=1)
    with Running(policy) as running, Raw(running) as client, Raw(running) as theirs:
        held(policy, client)
        theirs.say(x=5)
        waiting(running, 1)
        draining = running.begin(running.server.drain())
        until(lambda: not running.server.ready)
        client.say(1, x=1)
        assert client.told() == (1, "draining")
        with pytest.raises(OSError):
            Raw(running)
        policy.gate.set()
        assert client.told() == (0, 0.0)
        assert theirs.hear()["actions"][0, 0] == 5
        for each in (client, theirs):
            with pytest.raises(ConnectionClosedOK) as closed:
                each.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        draining.result(20)
        assert policy.closed.is_set()
        assert len(policy.forgotten) == 2


def test_draining_does_not_wait_for_ever() -> None:
    policy = Play()
    with Running(policy, drain_s=0.1) as running, Raw(running) as client:
        held(policy, client)
        draining = running.begin(running.server.drain())
        with pytest.raises(ConnectionClosed):
            client.hear()
        policy.gate.set()
        draining.result(20)
        assert policy.closed.is_set()
