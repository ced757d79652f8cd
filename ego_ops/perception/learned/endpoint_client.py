"""One request to an OpenAI-compatible server, and what its errors mean for a clip."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, cast

from ego_ops.errors import EndpointError, Rejection, UserError
from ego_ops.perception.learned.endpoint_answer import SCHEMA
from ego_ops.perception.learned.weights import INSTALL

_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "moved_thing", "strict": True, "schema": SCHEMA},
}
_PASSING = {408, 409, 425, 429}
_NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted"}
_FILTERED = {"content_filter", "content_policy_violation"}
_ANSWERED: set[str] = set()
"""Servers that this process has had an answer from."""


@dataclass(frozen=True)
class Server:
    """Where requests go, and how patiently."""

    base_url: str
    """Up to and with `/v1`; empty for OPENAI_BASE_URL, or OpenAI's own."""
    key_variable: str
    """Environment variable that holds the API key."""
    timeout_s: float
    max_retries: int


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str
    fault: str
    """Why the text is no answer (a refusal, cut off); empty where it is one."""
    tokens_in: int
    tokens_out: int


def complete(
    server: Server, model: str, messages: list[dict], max_tokens: int, temperature: float | None
) -> Reply:
    """Ask for one chat completion that follows `SCHEMA`.

    Raises:
        EndpointError: busy, broken or silent, after the client's own retries.
        Rejection: the server's filter does not let the question through (`not_localised`).
        UserError: the openai package or the key is missing, or the server cannot be reached, or
            refuses what every clip's request has in common.
    """
    openai, client = _openai(), _client(server)
    where = str(client.base_url)
    options = {} if temperature is None else {"temperature": temperature}
    try:
        completion = client.chat.completions.create(
            model=model,
            messages=messages,
            response_format=_FORMAT,
            max_completion_tokens=max_tokens,
            **options,
        )
    except openai.APIConnectionError as error:  # timeouts too
        if where in _ANSWERED or isinstance(error, openai.APITimeoutError):
            raise EndpointError(f"{where}: {_line(error)}") from error
        raise UserError(
            f"cannot reach {where} ({_line(error.__cause__ or error)}): is that server running?"
        ) from error
    except openai.APIStatusError as error:
        raise _refused(error, where, model) from error
    except (openai.OpenAIError, ValueError) as error:  # half a body, or none of JSON
        raise EndpointError(f"{where}: {_line(error)}") from error
    choices = getattr(completion, "choices", None)
    if not choices:
        raise UserError(f"{where} answers no chat completions: does its address end in /v1?")
    _ANSWERED.add(where)
    return _reply(completion, choices[0])


def _reply(completion: Any, choice: Any) -> Reply:
    message, usage = choice.message, completion.usage
    fault = ""
    if getattr(message, "refusal", None):
        fault = f"the model refuses ({_line(message.refusal)})"
    elif choice.finish_reason == "length":
        fault = "it is cut off: it must be short"
    elif not message.content:
        fault = f"it is empty (finish_reason {choice.finish_reason})"
    return Reply(
        message.content or message.refusal or "",
        fault,
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
    )


def _refused(error: Any, where: str, model: str) -> Exception:
    """The error that an HTTP status of 400 or more stands for."""
    said = f"{where}, model {model}: {error.status_code} {_line(error.message)}"
    code = {str(error.code), str(error.type)}
    if code & _NO_MONEY:
        return UserError(f"{said}: the account has nothing left to pay with")
    if code & _FILTERED:
        return Rejection("not_localised", said)
    if error.status_code in _PASSING or error.status_code >= 500:
        return EndpointError(said)
    advice = {
        401: "set the API key",
        403: "the API key may not use this model",
        404: "no such model, or an address that does not end in /v1",
        413: "show fewer or smaller frames",
    }.get(error.status_code, "the server does not take such requests (pictures, a JSON schema)")
    return UserError(f"{said}: {advice}")


@functools.lru_cache(maxsize=8)
def _client(server: Server) -> Any:
    """One client, with its connections, for each server and process."""
    openai = _openai()
    key = os.environ.get(server.key_variable)
    if not key:
        if not server.base_url:
            raise UserError(
                f"the vision endpoint needs an API key: set {server.key_variable}, on every "
                "machine that works on clips"
            )
        key = "none"  # servers of one's own seldom ask for one
    return openai.OpenAI(
        api_key=key,
        base_url=server.base_url or None,
        timeout=server.timeout_s,
        max_retries=server.max_retries,
    )


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise UserError(f"the vision endpoint needs the openai package: {INSTALL}") from error
    return cast(Any, openai)


def _line(what: object) -> str:
    return " ".join(str(what).split())[:300]
