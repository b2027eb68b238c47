"""Replies that no sane server sends: the same for the same seed and number, with the text that nobody may lose."""

import json
import random
import re
from typing import Any

from star_pipeline_tests.llm_server import Reply

_PIECES = (
    " ", "\n", "\t", "\u00a0", "[", "]", "[[", "[A]", "[B", "{", "}", "<", ">", "<think>", "</think>", "[THINK]", "\\boxed{", '"', "'",
    "**", "`", "```", "verdict: ", "A", "conclusion: ", "Final verdict", "(", ")", "\x00", "\ud800", "\udfff", "\u202e", "é", "漢", "0",
)  # fmt: skip  # read as a table
_TOKENS: tuple[Any, ...] = (
    0, 5, -1, 1.5, 1e300, True, None, "7", "many", "", [], {}, 10**18, 2**63, 10**19, 10**40, float("nan"), float("-inf"),
)  # fmt: skip  # read as a table
_REASONS: tuple[Any, ...] = ("stop", None, "", 7, ["stop"], {"a": 1}, True, "st\ud800op", "x" * 5000, "eos\x00")
_ODD: tuple[Any, ...] = (None, 3, -1.5, "x", [], {}, [None], {"a": [1]}, True, "\ud800")
QUESTION = re.compile(r"question (\d+)\.")


def text(draw: random.Random, most: int) -> str:
    """A run of one piece or a mixture, up to ``most`` characters, and never blank alone."""
    size = int(10 ** draw.uniform(0, len(str(most)) - 1))
    pieces = draw.choices(_PIECES, k=draw.choice((1, 1, 2, 5)))
    body = "".join(pieces) * (size // len("".join(pieces)) + 1)
    # what begins with reasoning is told from its reasoning, and that is another matter
    said = "w" + body[:size] + draw.choice(("", " ", "\n[A]", "\nA", " verdict: [[B]]", "\nA conclusion:")) + "w"
    return str(json.loads(json.dumps(said)))  # two halves of a character side by side are one


def hostile(seed: int, number: int, most: int = 1_000_000) -> tuple[Reply, str | None]:
    """The reply, and its text; None where it holds none that could be had."""
    draw = random.Random(f"{seed} {number}")
    if number == 0:  # a server that has never answered well is given up soon
        return Reply("a beginning"), "a beginning"
    if draw.random() < 0.2:
        return _broken(draw), None
    said = text(draw, most if draw.random() < 0.05 else 3000)
    message: dict[str, Any] = {"role": draw.choice(("assistant", "assistant", None, 7, "\ud800")), "content": said}
    if draw.random() < 0.1:
        half = len(said) // 2
        message["content"] = [{"type": "text", "text": said[:half]}, {"type": "text", "text": said[half:]}]
    for name in (
        "tool_calls",
        "function_call",
        "annotations",
        "audio",
        "refusal",
        "reasoning_content",
        "provider_specific_fields",
    ):
        if draw.random() < 0.1:
            message[name] = draw.choice(_ODD)
    choice: dict[str, Any] = {
        "index": draw.choice((0, None, "zero", 10**20)),
        "message": message,
        "finish_reason": draw.choice(_REASONS),
    }
    if draw.random() < 0.1:
        choice["logprobs"] = draw.choice(_ODD)
    others = [None, 5, {"message": None}, choice][: draw.choice((0, 0, 0, 1, 4))]
    body: dict[str, Any] = {"choices": [choice, *others]}
    for name in ("id", "object", "created", "model", "system_fingerprint", "service_tier"):
        if draw.random() < 0.7:
            body[name] = draw.choice(_ODD)
    if draw.random() < 0.9:
        body["usage"] = {name: draw.choice(_TOKENS) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        for name in ("prompt_tokens_details", "completion_tokens_details"):
            if draw.random() < 0.3:
                body["usage"][name] = draw.choice((*_ODD, {"cached_tokens": draw.choice(_TOKENS)}))
        if draw.random() < 0.1:
            body["usage"] = draw.choice(_ODD)
    encoded = json.dumps(body)
    if draw.random() < 0.05:
        encoded = encoded.replace('"choices"', f'"count": {"9" * 6000}, "choices"', 1)
    headers = {"X-Long": "y" * draw.choice((10, 1000, 6000))} if draw.random() < 0.2 else {}
    return Reply(body=encoded.encode(), headers=headers), said


def _broken(draw: random.Random) -> Reply:
    bodies = (
        b"", b"{", b"[]", b"null", b"7", b'"text"', b"<html>Bad gateway</html>", b"{}", b'{"choices": []}', b'{"choices": {"a": 1}}',
        b'{"choices": [null]}', b'{"choices": [{"message": null}]}', b'{"choices": [{"message": 5}]}', b'{"error": "loading"}',
        b'{"error": {"message": "Provider returned error", "code": 502}}', b"\xff\xfe\x00", b"[" * 200_000, b'{"a":' * 100_000,
    )  # fmt: skip  # read as a table
    if draw.random() < 0.2:
        return draw.choice((
            Reply(breaks="reset"), Reply(breaks="half"), Reply(status=500, body=b"x" * 100_000), Reply(status=599),
            Reply(status=429, headers={"Retry-After": draw.choice(("nan", "-5", "soon", "9" * 400 + "x", ""))}),
            Reply("fine", headers={"X-Long": "y" * 20_000}),
        ))  # fmt: skip  # read as a table
    return Reply(body=draw.choice(bodies))


def script(seed: int, most: int = 1_000_000) -> Any:
    """A server's script: the number after ``question`` decides."""

    def answer(asked: dict[str, Any]) -> Reply:
        found = QUESTION.search(str(asked["messages"]))
        return hostile(seed, int(found[1]) if found else 0, most)[0]

    return answer
