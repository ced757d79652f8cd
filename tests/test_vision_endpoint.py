"""A vision endpoint against a server that speaks OpenAI's chat completions over real HTTP."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

from ego_ops.clip import Clip
from ego_ops.errors import EndpointError, Rejection, UserError
from ego_ops.perception.learned import endpoint_client, vision_endpoint
from ego_ops.perception.learned.endpoint_answer import SCHEMA, Unusable, check, parse
from ego_ops.perception.learned.vision_endpoint import AnnotatedLocation, Located, VisionEndpoint
from ego_ops.verdict import MAX_ATTEMPTS, verdict

CLIP = Clip("00aa" * 4, "x", "1", "v", "/", "v.mp4", "", 10.0, 14.0, "C moves the cup", "move")
TIMES = np.arange(9.0, 15.0, 0.1)
IMAGES = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None] * 4, (60, 90, 160, 3))
GOOD = {
    "start_s": 1.0,
    "end_s": 3.5,
    "object": "the red cup.",
    "moved": True,
    "confidence": 0.9,
    "reason": "A hand lifts it.",
}

Answer = Callable[[], Response]


def completion(content: str | dict | None, status: str = "stop", **message: Any) -> Answer:
    """A 200 with a chat completion of 1000 tokens in and 50 out."""
    text = json.dumps(content) if isinstance(content, dict) else content
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": status,
                "message": {"role": "assistant", "content": text, **message},
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
    }
    return lambda: Response(json.dumps(body), mimetype="application/json")


def error(status: int, code: str = "", headers: dict[str, str] | None = None) -> Answer:
    body = {"error": {"message": f"it says {status}", "type": "t", "code": code or None}}
    return lambda: Response(
        json.dumps(body), status=status, mimetype="application/json", headers=headers
    )


class Server:
    """Gives the answers of `script` in turn, the last for ever, and keeps what was asked."""

    def __init__(self) -> None:
        self.script: list[Answer] = [completion(GOOD)]
        self.asked: list[dict] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()
        app = Flask("endpoint")
        app.post("/v1/chat/completions")(self._answer)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _answer(self) -> Response:
        with self.lock:
            self.asked.append(request.get_json())
            self.keys.append(request.headers.get("Authorization", ""))
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return answer()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    running = Server()
    yield running
    running.stop()


def endpoint(server: Server, **options: Any) -> VisionEndpoint:
    settings: dict[str, Any] = {"cache": "", "timeout_s": 5.0, "max_retries": 1, "model": "m"}
    return VisionEndpoint(base_url=server.url, **{**settings, **options})


def ask(where: VisionEndpoint, clip: Clip = CLIP) -> Located:
    return where.locate(clip, TIMES, IMAGES)


# What is asked


def test_an_answer_becomes_seconds_of_the_video_and_a_plain_noun(server: Server) -> None:
    found = ask(endpoint(server, price_in=2.5, price_out=10.0))
    assert (found.t_start, found.t_end) == (11.0, 13.5)
    assert (found.noun, found.moved, found.confidence) == ("red cup", True, 0.9)
    assert (found.tokens_in, found.tokens_out, found.cached) == (1000, 50, False)
    assert found.cost == pytest.approx(0.0025 + 0.0005)
    assert found.reason == "A hand lifts it."


def test_the_request_demands_the_schema_strictly(server: Server) -> None:
    ask(endpoint(server))
    (sent,) = server.asked
    form = sent["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    schema = form["json_schema"]["schema"]
    assert schema == SCHEMA
    # What strict mode requires: every field required, none besides.
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert sent["model"] == "m"
    assert sent["temperature"] == 0
    assert server.keys == ["Bearer secret-1"]


def test_frames_of_the_clip_alone_are_shown_small_stamped_and_in_order(server: Server) -> None:
    ask(endpoint(server, frames=5, side=80))
    text, *pictures = server.asked[0]["messages"][0]["content"]
    assert "0.00, 1.00, 2.00, 3.00, 4.00" in text["text"]
    assert "C moves the cup" in text["text"]
    assert len(pictures) == 5
    shades = []
    for k, picture in enumerate(pictures):
        head, _, data = picture["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        raw = base64.b64decode(data)
        assert len(raw) < 4000
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (45, 80, 3)
        shades.append(image[30:, 30:].mean())
        assert image[:12, :40].max() > 200, f"no stamp in picture {k}"
    frames = [int(np.argmin(np.abs(TIMES - t))) for t in (10, 11, 12, 13, 14)]
    np.testing.assert_allclose(shades, [4 * f for f in frames], atol=2)


def test_colours_are_kept(server: Server) -> None:
    red = np.broadcast_to(np.array([220, 30, 10], np.uint8), (60, 90, 160, 3))
    endpoint(server).locate(CLIP, TIMES, red)
    url = server.asked[0]["messages"][0]["content"][1]["image_url"]["url"]
    raw = base64.b64decode(url.partition(",")[2])
    bgr = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(bgr[60:, 60:].mean((0, 1)), [10, 30, 220], atol=6)


def test_fewer_frames_than_an_interval_has_ends_are_refused() -> None:
    with pytest.raises(UserError, match="two frames"):
        VisionEndpoint(frames=1)


def test_a_model_without_temperature_is_sent_none(server: Server) -> None:
    ask(endpoint(server, temperature=None))
    assert "temperature" not in server.asked[0]


def test_a_clip_of_which_no_frame_is_shown_is_rejected_unasked(server: Server) -> None:
    with pytest.raises(Rejection) as caught:
        ask(endpoint(server), replace(CLIP, t_start=30.0, t_end=31.0))
    assert caught.value.reason == "too_short"
    assert server.asked == []


# Answers that are none


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_s": 3.0, "end_s": 2.0}, "not before"),
        ({"start_s": 2.0, "end_s": 2.0}, "not before"),
        ({"end_s": 4.5}, "not within 0 to 4.00"),
        ({"start_s": -1.0}, "not within"),
        ({"start_s": float("nan")}, "not finite"),
        ({"start_s": "soon"}, "not a number"),
        ({"end_s": True}, "not a number"),
        ({"object": " "}, "names no thing"),
        ({"object": "None"}, "names no thing"),
        ({"object": ["cup"]}, "not a noun phrase"),
        ({"confidence": 90}, "not from 0 to 1"),
        ({"moved": "yes"}, "neither true nor false"),
    ],
)
def test_an_unusable_answer_is_asked_once_more_with_the_reason(
    server: Server, change: dict, said: str
) -> None:
    server.script = [completion({**GOOD, **change}), completion(GOOD)]
    found = ask(endpoint(server, price_in=1.0, price_out=1.0))
    assert found.noun == "red cup"
    assert (found.tokens_in, found.tokens_out) == (2000, 100)  # both questions are paid for
    assert found.cost == pytest.approx(2100e-6)
    first, second = server.asked
    assert len(first["messages"]) == 1
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert said in second["messages"][2]["content"]


@pytest.mark.parametrize(
    "answer",
    [
        completion("I cannot see."),
        completion(None),
        completion(GOOD, "length"),
        completion(None, refusal="No."),
        completion({**GOOD, "object": ""}),
        completion('{"start_s": 1, '),
    ],
    ids=["prose", "empty", "cut", "refusal", "no noun", "half"],
)
def test_two_unusable_answers_reject_the_clip(server: Server, answer: Answer) -> None:
    server.script = [answer]
    with pytest.raises(Rejection) as caught:
        ask(endpoint(server))
    assert caught.value.reason == "not_localised"
    assert "m, asked twice: " in caught.value.detail
    assert len(server.asked) == 2


def test_what_sticks_out_a_little_is_cut_to_the_clip() -> None:
    found = check({**GOOD, "start_s": -0.05, "end_s": 4.08}, CLIP)
    assert (found.t_start, found.t_end) == (10.0, 14.0)


def test_nothing_moved_is_an_answer() -> None:
    found = check({**GOOD, "moved": False, "object": "none", "start_s": 0, "end_s": 0}, CLIP)
    assert not found.moved
    assert (found.t_start, found.t_end) == (10.0, 14.0)


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n```",
        "Here you are: {} I hope that helps.",
        '<think>Perhaps {"start_s": 0}?</think> {}',
        "a set {{1}} is not it, {}",
    ],
)
def test_an_object_is_found_in_the_text_of_a_server_that_ignores_the_schema(
    server: Server, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    vision_endpoint._say_lenient.cache_clear()
    server.script = [completion(text.replace("{}", json.dumps(GOOD)))]
    with caplog.at_level(logging.WARNING):
        assert ask(endpoint(server)).noun == "red cup"
        ask(endpoint(server))
    assert len(server.asked) == 2  # none was repeated
    assert [r.getMessage() for r in caplog.records if "JSON schema" in r.getMessage()] == [
        f"{server.url}, model m, does not keep to the JSON schema: "
        "its answers are read from its text"
    ]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": 1} {"b"', "{" * 2000, '{"a":' * 5000])
def test_text_without_an_answer_is_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        check(parse(text)[0], CLIP)


# Servers in trouble


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(server: Server) -> None:
    server.script = [error(429, headers={"Retry-After": "1"}), completion(GOOD)]
    begun = time.monotonic()
    assert ask(endpoint(server)).noun == "red cup"
    assert 0.9 < time.monotonic() - begun < 4
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_stays_in_trouble_fails_the_clip_for_now(server: Server, status: int) -> None:
    server.script = [error(status, headers={"Retry-After-Ms": "1"})]
    with pytest.raises(EndpointError, match=f"it says {status}") as caught:
        ask(endpoint(server, max_retries=3))
    assert len(server.asked) == 4
    judged = verdict(caught.value)
    assert (judged.label, judged.attempts) == ("endpoint", MAX_ATTEMPTS)


def test_a_silent_server_fails_the_clip_for_now(server: Server) -> None:
    def slow() -> Response:
        time.sleep(1.0)
        return completion(GOOD)()

    server.script = [slow]
    with pytest.raises(EndpointError, match="timed out"):
        ask(endpoint(server, timeout_s=0.2, max_retries=0))


def test_half_an_answer_fails_the_clip_for_now(server: Server) -> None:
    server.script = [lambda: Response('{"choices": [', mimetype="application/json")]
    with pytest.raises(EndpointError):
        ask(endpoint(server))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(401, "invalid_api_key"), "set the API key"),
        (error(403), "may not use"),
        (error(404, "model_not_found"), "no such model"),
        (error(400), "a JSON schema"),
        (error(413), "fewer or smaller"),
        (error(429, "insufficient_quota", {"Retry-After-Ms": "1"}), "nothing left to pay"),
        (lambda: Response("<html>hello</html>", mimetype="text/html"), "end in /v1"),
    ],
)
def test_what_is_no_clips_fault_stops_the_job_in_one_line(
    server: Server, answer: Answer, said: str
) -> None:
    server.script = [answer]
    with pytest.raises(UserError, match=said) as caught:
        ask(endpoint(server))
    message = str(caught.value)
    assert server.url in message
    assert "\n" not in message
    assert "secret-1" not in message


def test_a_filtered_question_rejects_the_clip(server: Server) -> None:
    server.script = [error(400, "content_policy_violation")]
    with pytest.raises(Rejection) as caught:
        ask(endpoint(server))
    assert caught.value.reason == "not_localised"


def test_a_server_that_is_not_there_stops_the_job_but_one_that_went_away_does_not(
    server: Server,
) -> None:
    nowhere = VisionEndpoint(base_url="http://127.0.0.1:9/v1", cache="", max_retries=0)
    with pytest.raises(UserError, match="is that server running"):
        ask(nowhere)
    ask(endpoint(server))
    server.stop()
    with pytest.raises(EndpointError):
        ask(endpoint(server, max_retries=0))


def test_without_a_key_openai_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint_client._client.cache_clear()
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        ask(VisionEndpoint(cache=""))


def test_the_key_is_in_nothing_that_is_written_down(server: Server) -> None:
    where = endpoint(server)
    ask(where)
    assert "secret-1" not in repr(where)
    assert b"secret-1" not in pickle.dumps(where)


# The cache


def test_a_second_run_asks_nothing_and_knows_what_the_first_paid(
    server: Server, tmp_path: Path
) -> None:
    where = endpoint(server, cache=str(tmp_path), price_in=2.0, price_out=4.0)
    first, second = ask(where), ask(where)
    assert len(server.asked) == 1
    assert second == replace(first, cached=True)
    assert second.cost == pytest.approx(2200e-6)


def test_a_rejection_is_not_paid_for_twice_either(server: Server, tmp_path: Path) -> None:
    server.script = [completion("no")]
    for _ in range(2):
        with pytest.raises(Rejection):
            ask(endpoint(server, cache=str(tmp_path)))
    assert len(server.asked) == 2  # the question and its repetition, of the first run


def test_another_clip_narration_model_or_view_is_asked_anew(server: Server, tmp_path: Path) -> None:
    where = endpoint(server, cache=str(tmp_path))
    ask(where)
    ask(where, replace(CLIP, clip_id="ff" * 8))
    ask(where, replace(CLIP, narration="C moves the other cup"))
    ask(replace(where, model="n"))
    ask(replace(where, frames=4))
    assert len(server.asked) == 5
    ask(replace(where, price_in=1.0, timeout_s=9.0))
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1]",
        lambda text: text.replace(CLIP.clip_id, "0" * 16),
        lambda text: text.replace('"end_s": 3.5', '"end_s": 99'),
        lambda text: text.replace('"unusable": ""', '"unusable": 0'),
        lambda text: text.replace('"tokens_in": 1000', '"tokens_in": null'),
    ],
)
def test_a_damaged_answer_is_ignored_and_written_anew(
    server: Server, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    where = endpoint(server, cache=str(tmp_path), price_in=1.0, price_out=1.0)
    first = ask(where)
    (file,) = tmp_path.glob("*/*.json")
    whole = file.read_text()
    assert damage(whole) != whole
    file.write_text(damage(whole))
    assert ask(where) == first
    assert len(server.asked) == 2
    assert file.read_text() == whole


def test_many_workers_share_a_cache(server: Server, tmp_path: Path) -> None:
    where = endpoint(server, cache=str(tmp_path))
    clips = [replace(CLIP, clip_id=f"{k % 4:016x}") for k in range(32)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda clip: ask(where, clip), clips))
    assert {one.noun for one in found} == {"red cup"}
    assert len(list(tmp_path.glob("*/*.json"))) == 4
    asked = len(server.asked)
    assert 4 <= asked <= 32
    for clip in clips:
        assert ask(where, clip).cached
    assert len(server.asked) == asked


def test_a_cache_may_lie_on_an_object_store(server: Server) -> None:
    where = endpoint(server, cache="memory://answers")
    assert not ask(where).cached
    assert ask(where).cached
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_stops_the_job(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot"):
        ask(endpoint(server, cache=str(tmp_path / "file")))


# The annotations' own


def test_annotations_are_taken_at_their_word() -> None:
    found = AnnotatedLocation().locate(replace(CLIP, object="blue cup"), TIMES, IMAGES)
    assert found == Located(10.0, 14.0, "blue cup", True, 1.0)
    assert AnnotatedLocation().locate(CLIP, TIMES, IMAGES).noun == "cup"


def test_an_annotation_that_names_nothing_is_rejected() -> None:
    with pytest.raises(Rejection) as caught:
        AnnotatedLocation().locate(replace(CLIP, narration="C walks around"), TIMES, IMAGES)
    assert caught.value.reason == "not_localised"
