"""How a scoring model is shown what comes before a response (Eq. 4): named templates."""

from collections.abc import Mapping, Sequence
from typing import Literal

from star_pipeline.core.records import Message

Template = Literal["alpaca", "plain", "chat"]
Start = Literal["token", "skip_first", "newline"]
"""What stands before everything else in both passes. ``token``: one start token, as in Eq. 4; ``skip_first``: the same, and the
response's first token is scored in neither pass; ``newline``: the start token and a newline."""
ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


def prompt_text(template: str, system: str | None, history: Sequence[Message], instruction: str) -> str:
    """The prompt's text.

    ``alpaca``: Stanford Alpaca's form; a system prompt replaces the preamble, earlier turns come before the last as blocks
    of the same two kinds, in their order. Blocks are parted by an empty line.
    ``plain``: system, history and instruction, each followed by one newline, and nothing else.
    """
    if template == "plain":
        parts = [*([system] if system else []), *(turn.content for turn in history), instruction]
        return "".join(f"{part}\n" for part in parts)
    blocks = [system or ALPACA_PREAMBLE]
    blocks += [f"### {'Response' if turn.role == 'assistant' else 'Instruction'}:\n{turn.content}" for turn in history]
    blocks += [f"### Instruction:\n{instruction}", "### Response:"]
    return "\n\n".join(blocks)


def with_system_in_first_question(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]] | None:
    """The system prompt at the head of the user's first message, for templates without a system role; None without one."""
    if not messages or messages[0]["role"] != "system":
        return None
    asked = next(place for place, message in enumerate(messages) if message["role"] == "user")
    question = {**messages[asked], "content": f"{messages[0]['content']}\n\n{messages[asked]['content']}"}
    return [*messages[1:asked], question, *messages[asked + 1 :]]


def prompt_messages(system: str | None, history: Sequence[Message], instruction: str) -> list[dict[str, str]]:
    """The same as chat messages, for the tokenizer's own ``chat`` template."""
    opening = [{"role": "system", "content": system}] if system else []
    turns = [{"role": turn.role, "content": turn.content} for turn in history]
    return [*opening, *turns, {"role": "user", "content": instruction}]
