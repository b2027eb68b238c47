"""Eq. 2: whether a reply is a text that can be used, and which; else the reason why not."""

from collections.abc import Callable
from dataclasses import dataclass

from star_pipeline.core.equations.reply_cleaning import spoken
from star_pipeline.core.identity import is_unicode
from star_pipeline.core.ports import ChatReply

MASKED = "[the agent's key, left out]"
"""What stands in a reply in the place of the agent's own key."""
_NATURAL = frozenset(
    {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "end", "finished", "done", ""}
)
_LIMIT = frozenset({"length", "max_tokens", "max_output_tokens", "max_length", "token_limit", "continuation"})
_CONTEXT = frozenset({"model_length", "model_context_window_exceeded", "context_length", "context_window"})
_FILTER = frozenset(
    {
        "content_filter",
        "content_filtered",
        "safety",
        "refusal",
        "recitation",
        "sensitive",
        "error_toxic",
        "prohibited_content",
    }
    | {"blocklist", "spii", "language", "guardrail_intervened", "image_safety", "other", "escalation"}
)
_TOOL = frozenset(
    {"tool_calls", "tool_call", "tool_use", "function_call", "unexpected_tool_call", "malformed_function_call"}
)
_BROKEN = frozenset(
    {"abort", "aborted", "error", "cancelled", "canceled", "network_error", "timeout", "server_error", "failed"}
)


@dataclass(frozen=True)
class Reading:
    """``text`` of a reply that is one; else None, with ``kind``, a short name to count by, and ``reason``."""

    text: str | None
    kind: str | None = None
    reason: str | None = None


def is_whole(finish_reason: str) -> bool:
    """Whether the model came to its end by itself. A server that names no reason is taken to say so."""
    return finish_reason.lower() in _NATURAL


def is_broken_off(finish_reason: str) -> bool:
    """Whether the server gave up, so that another try may end well."""
    return finish_reason.lower() in _BROKEN


def read_reply(reply: ChatReply, *inputs: str, unwrap: Callable[[str], str] = str) -> Reading:
    """The text of a reply, without reasoning and tokens of turns; none where it did not come to its end, is empty or echoes an input.

    ``unwrap`` takes off what the model put around its text.
    """
    said = spoken(reply.text)
    if not is_unicode(reply.text):
        return Reading(None, "malformed_reply", "the reply holds half a character (a lone surrogate)")
    if MASKED in reply.text:
        return Reading(
            None, "quoted_key", "the reply quotes the agent's key, which is no text to train on; the key is masked"
        )
    if not is_whole(reply.finish_reason):
        return Reading(None, *_unfinished(reply, bool(said.text), said.thought))
    if said.text is None:
        return Reading(None, "unclosed_reasoning", "reasoning begins in the reply, and no end of it that could be told")
    bare = unwrap(said.text)
    text = " ".join(bare.split())
    if not text and said.thought:
        return Reading(None, "only_reasoning", "the reply is reasoning alone, without an answer")
    if not text:
        return Reading(None, "empty_reply", "the reply is empty")
    if any(text == " ".join(given.split()) for given in inputs):
        return Reading(None, "echo", "the reply repeats its input")
    return Reading(bare)


def _unfinished(reply: ChatReply, has_answer: bool, thought: bool) -> tuple[str, str]:
    """(kind, reason) of a reply that did not come to its end."""
    name = reply.finish_reason.lower()
    told = f"finish reason {reply.finish_reason[:40]!r}"
    if name in _LIMIT and not has_answer:
        what = "reasoning took" if thought else "whatever the model does before it answers, such as reasoning, took"
        return "only_reasoning" if thought else "cut_off", (
            f"no answer: {what} all of the {reply.completion_tokens} tokens; raise the agent's params.max_tokens, or let it reason less"
        )
    if name in _LIMIT:
        return (
            "cut_off",
            f"the reply was cut off at {reply.completion_tokens} tokens; raise the agent's params.max_tokens",
        )
    if name in _CONTEXT:
        return "cut_off", (
            f"the reply was cut off at {reply.completion_tokens} tokens, where the model's context ends ({told}); serve the model "
            "with a longer context"
        )
    if name in _FILTER:
        return "content_filter", f"a filter of the provider ended the reply ({told})"
    if name in _TOOL:
        return (
            "tool_call",
            f"the model called a tool in place of an answer ({told}); take tools out of its server's settings",
        )
    if name in _BROKEN:
        return "broken_off", f"the server broke the reply off ({told})"
    return "unfinished", f"the reply did not come to its own end ({told}); expected stop"
