"""What comes over the wire, before litellm reads it: no redirect takes a key elsewhere, and odd metadata costs no paid reply.

litellm throws a whole reply away where a field beside the text is not as OpenAI gives it (tokens counted as ``1.5``, a list for a
finish reason, a content in parts). Here such fields are put right, or left out, as soon as the reply is there.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.core.aliases import JsonObject

if TYPE_CHECKING:
    import httpx

MOST_TOKENS = 10**9
"""No reply has more: a larger count says nothing."""
MOST_BYTES, _MOST_OF_AN_ERROR = 32 * 2**20, 8192
_LONGEST_REASON, _DEEPEST = 64, 8
_MOST_TOLD, _LEAST_LOGPROB = 100, -1e4
_TEXT_PARTS, _REASONING_PARTS = (
    ("text", "output_text"),
    ("thinking", "reasoning", "reasoning_text", "redacted_thinking"),
)


def guard(client: "httpx.AsyncClient") -> "httpx.AsyncClient":
    """The httpx client as it is, its replies looked at as they arrive."""
    if client is not None and look_at not in client.event_hooks["response"]:
        client.event_hooks = {**client.event_hooks, "response": [*client.event_hooks["response"], look_at]}
    return client


async def look_at(response: "httpx.Response") -> None:
    """Put a chat completion right. Raises Failure for a redirect to another origin, and for a reply that nobody can want."""
    if response.has_redirect_location:
        asked, other = response.request.url, response.request.url.join(response.headers["location"])
        require_one_origin(str(asked), str(other))
    body = await response.aread()
    if response.status_code != 200:
        response._content = body[
            :_MOST_OF_AN_ERROR
        ]  # litellm would look through all of it for secrets, on the event loop
        return
    if not response.request.url.path.endswith("/chat/completions"):
        return
    said = _read(body)
    tidied = _with_choices(said, body)
    if tidied is not said:
        response._content = json.dumps(tidied).encode()
    elif not tidied.get("choices"):
        response._content = body[:_MOST_OF_AN_ERROR]


def completion_of(body: bytes) -> JsonObject:
    """A chat completion from its bytes, with what a reader may rely on. Raises Failure, also for an error in its place."""
    said = _with_choices(_read(body), body)
    choices = said.get("choices")
    if not (isinstance(choices, list) and choices):
        if not said.get("error"):
            raise Failure("malformed_reply", f"the reply's choices are no list ({len(body):,} bytes)", True)
        told = said["error"]
        message = told.get("message") if isinstance(told, Mapping) else told
        raise Failure("server_error", f"an error in place of a reply: {str(message)[:300]}", True)
    return said


def objects_in(lines: bytes) -> list[JsonObject]:
    """The objects of a file of JSON lines; a line that is none is left out."""
    found = []
    for line in lines.split(b"\n"):
        try:
            said = _read(line) if line.strip() else None
        except Failure:
            continue
        if isinstance(said, dict):
            found.append(said)
    return found


def error_code(body: bytes) -> int | None:
    """The status that an error in place of a reply names; some routers send it with HTTP 200. Errors are short."""
    if len(body) > _MOST_OF_AN_ERROR or b'"error"' not in body:
        return None
    try:
        error = json.loads(body).get("error")
        code = error.get("code") if isinstance(error, dict) else None
    except (ValueError, AttributeError, RecursionError):
        return None
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else None


def _read(body: bytes) -> object:
    if len(body) > MOST_BYTES:
        raise Failure("malformed_reply", f"the reply has {len(body):,} bytes; expected at most {MOST_BYTES:,}", True)
    try:
        return json.loads(body.decode(json.detect_encoding(body), "replace"), parse_int=_whole)
    except ValueError:
        raise Failure("malformed_reply", f"the reply is no JSON ({len(body):,} bytes)", True) from None
    except RecursionError:
        raise Failure("malformed_reply", "the reply is nested too deeply to be read", True) from None


def _with_choices(said: object, body: bytes) -> JsonObject:
    tidied = tidy(said)
    if not (isinstance(tidied, dict) and (tidied.get("choices") or tidied.get("error"))):
        raise Failure("malformed_reply", f"the reply holds no choices ({len(body):,} bytes)", True)
    return tidied


def require_one_origin(asked: str, other: str) -> None:
    """Raises Failure where a redirect leads to another origin."""
    here, there = urlsplit(asked), urlsplit(other)
    if (here.scheme, here.hostname, here.port) != (there.scheme, there.hostname, there.port):
        raise Failure(
            "redirected",
            f"{here.scheme}://{here.netloc} sends on to {there.scheme}://{there.netloc}, where no key is taken; write the address that "
            "answers itself in api_base",
            False,
            maybe_billed=False,
        )


def tidy(said: object) -> object:
    """A chat completion with what a reader may rely on; the same object where nothing was odd, or nothing is to be saved."""
    if not isinstance(said, dict) or not isinstance(said.get("choices"), list):
        return said
    choices = [kept for kept in map(_choice, said["choices"]) if kept is not None]
    choices = [kept for kept in choices if kept["message"]["content"]][:1] or choices[:1]
    usual: JsonObject = {name: said[name] for name in ("id", "object", "model") if isinstance(said.get(name), str)}
    usual |= {"created": said["created"]} if _count(said.get("created")) is not None else {}
    usual |= {"error": said["error"]} if said.get("error") else {}
    tidied = {**usual, "choices": choices, "usage": usage(said.get("usage"))}
    return said if tidied == said else tidied


def usage(said: object) -> JsonObject | None:
    """The tokens that the server counted; None where it did not, or cannot have."""
    if not isinstance(said, Mapping):
        return None
    prompt, completion = tokens(said.get("prompt_tokens")), tokens(said.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details = {
        name: {key: value for key, value in told.items() if tokens(value) is not None}
        for name in ("prompt_tokens_details", "completion_tokens_details")
        if isinstance(told := said.get(name), Mapping)
    }
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def tokens(said: object) -> int | None:
    """A count of tokens, in whole numbers or digits; None for what cannot be one."""
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 12:
        said = int(said)
    count = _count(said)
    return count if count is not None and count <= MOST_TOKENS else None


def reason(said: object) -> str:
    """A finish reason that can be stored: nothing said, or nonsense, is taken for a natural stop."""
    if not isinstance(said, str) or not said.strip():
        return "stop"
    return said.encode("utf-8", "replace").decode()[:_LONGEST_REASON]


def _count(said: object) -> int | None:
    if isinstance(said, bool) or not isinstance(said, int | float) or said != said or said < 0:
        return None
    return int(said) if said < 2**63 and said == int(said) else None


def _whole(digits: str) -> int | float:
    """Python refuses to read numbers of many thousand digits, and with them the reply that they stand in."""
    return int(digits) if len(digits) < 30 else float("nan")


def _choice(said: object) -> JsonObject | None:
    if not isinstance(said, Mapping):
        return None
    message = said.get("message")
    if not isinstance(message, Mapping):
        if "text" not in said:
            return None
        message = {"content": said["text"]}
    content, thought = parts_of(message.get("content"))
    kept: JsonObject = {"role": "assistant", "content": content}
    for name in ("reasoning_content", "reasoning", "refusal"):
        if isinstance(message.get(name), str):
            kept[name] = message[name]
    if thought:
        kept["reasoning_content"] = kept.get("reasoning_content") or thought
    # the call itself is left out: nobody here could answer it
    called = not content and (message.get("tool_calls") or message.get("function_call"))
    first = first_token(said.get("logprobs"))
    told = {"logprobs": {"content": [first]}} if first else {}
    reason_kept = "tool_calls" if called else reason(said.get("finish_reason"))
    return {"index": 0, "finish_reason": reason_kept, "message": kept, **told}


def first_token(said: object) -> JsonObject | None:
    """What ``logprobs`` tells of a reply's first token, as OpenAI gives it; None where that is nothing."""
    content = said.get("content") if isinstance(said, Mapping) else None
    first = content[0] if isinstance(content, list) and content else None
    alone = _alternative(first)
    if not isinstance(first, Mapping) or alone is None:
        return None
    others = first.get("top_logprobs")
    listed = [_alternative(other) for other in others[:_MOST_TOLD]] if isinstance(others, list) else []
    return {**alone, "top_logprobs": [other for other in listed if other is not None]}


def _alternative(said: object) -> JsonObject | None:
    if not isinstance(said, Mapping) or not isinstance(said.get("token"), str):
        return None
    logprob = said.get("logprob")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or logprob != logprob:
        return None
    # some servers round 1 up, and -9999 stands for "not at all"
    kept = min(max(float(logprob), _LEAST_LOGPROB), 0.0)
    return {"token": said["token"][:_LONGEST_REASON], "logprob": kept, "bytes": None}


def parts_of(content: object, depth: int = 0) -> tuple[str | None, str]:
    """(the text, the reasoning) of a message's content, which may come in parts; what is neither is left out."""
    if isinstance(content, str | None):
        return content, ""
    if isinstance(content, list) and depth < _DEEPEST:
        both = [_part(part, depth) for part in content]
        return "".join(text for text, _ in both) or None, "".join(thought for _, thought in both)
    if isinstance(content, Mapping):
        return parts_of([content], depth)
    return (None if isinstance(content, bool | list) else str(content)), ""


def _part(part: object, depth: int) -> tuple[str, str]:
    if isinstance(part, str):
        return part, ""
    if not isinstance(part, Mapping):
        return "", ""
    kind = part.get("type") or "text"
    if kind in _TEXT_PARTS:
        inner = part.get("text", part.get("content"))
        return (inner, "") if isinstance(inner, str) else ("", "")
    if kind in _REASONING_PARTS:
        inner = part.get(kind, part.get("text", part.get("content")))
        return "", "".join(said or "" for said in parts_of(inner, depth + 1))
    return "", ""
