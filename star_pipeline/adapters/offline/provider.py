"""The agents and the judge of the offline profile, as the litellm provider ``offline``.

After ``register()``, ``litellm.acompletion(model="offline/tutor", messages=[...])`` is answered here, without a
network:

=====================  =========  ==========================================  ==========================================
model                  quality    as response agent                           as instruction agent
=====================  =========  ==========================================  ==========================================
``offline/tutor``      best       complete, in order, to the point            adds one fitting constraint, or asks for
                                                                              explained steps
``offline/essayist``   good       complete, but wrapped in padding            asks for more depth and breadth
``offline/brief``      fair       correct, a sentence or so                   asks for a short answer
``offline/rambler``    poor       filler that hardly touches the question     makes it vaguer
``offline/judge``      (a judge)  compares two answers, or grades one, with a fixed formula; other requests it takes as ``brief`` does
=====================  =========  ==========================================  ==========================================

What they know are the package's starter seeds. A reply is a pure function of model, messages and the parameters
``seed``, ``temperature`` and ``top_p``; ``max_tokens`` only cuts it. What an agent is asked to do, it reads off the
shipped prompt templates' own marks: the judge's "[Final Verdict]" or "[Grade]", a <draft>, or "Rewritten instruction:" after an
<instruction>.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from star_pipeline.adapters.offline.judge import grade, judge, letter_logprobs
from star_pipeline.adapters.offline.knowledge import Knowledge, shipped_knowledge
from star_pipeline.adapters.offline.respond import respond
from star_pipeline.adapters.offline.rewrite import rewrite
from star_pipeline.adapters.offline.text import Draw, count_tokens, cut_to_tokens
from star_pipeline.core.aliases import JsonMapping, JsonObject

PROVIDER = "offline"
AGENTS = ("tutor", "essayist", "brief", "rambler", "judge")
_VARYING_PARAMS = ("seed", "temperature", "top_p")

_NOT_BLANK = re.compile(r"\S|\Z")
_DEMAND, _CLOSE = "Rewritten instruction:", "</instruction>"


def _to_rewrite(prompt: str) -> str | None:
    """The instruction of a prompt that asks to rewrite one, None of any other; in one pass, whatever stands in it."""
    body = prompt.strip()
    if not body.endswith(_DEMAND) or not (body := body[: -len(_DEMAND)].rstrip()).endswith(_CLOSE):
        return None
    place = 0
    for name, following in (
        ("system_prompt", ("<conversation>\n", "<instruction>")),
        ("conversation", ("<instruction>",)),
    ):
        end = f"\n</{name}>"
        if body.startswith(f"<{name}>\n", place):
            while (place := body.find(end, place)) >= 0:
                found = _NOT_BLANK.search(body, place + len(end))
                place = found.start() if found else len(body)
                if body.startswith(following, place):
                    break
            else:
                return None
    if not body.startswith("<instruction>", place):
        return None
    return body[place + len("<instruction>") : -len(_CLOSE)].removeprefix("\n").removesuffix("\n")


def _drafted(prompt: str) -> tuple[str, str] | None:
    """(the instruction, the draft) of a prompt that shows a draft."""
    begin, end = prompt.find("<draft>"), prompt.rfind("</draft>")
    if begin < 0 or end < begin:
        return None
    return prompt[:begin].rstrip("\n"), prompt[begin + len("<draft>") : end].removeprefix("\n")


def reply(agent: str, messages: Sequence[JsonMapping], params: JsonMapping, knowledge: Knowledge | None = None) -> str:
    """The agent's whole reply to chat ``messages``; ``knowledge`` defaults to the starter seeds.

    Raises ValueError for an agent that is not one of ``AGENTS``.
    """
    if agent not in AGENTS:
        raise ValueError(f"no offline agent {agent!r}; expected one of {', '.join(AGENTS)}")
    knowledge = shipped_knowledge() if knowledge is None else knowledge
    turns = [(str(message.get("role", "user")), _text(message.get("content"))) for message in messages]
    draw = Draw(agent, turns, {name: params.get(name) for name in _VARYING_PARAMS})
    prompt = "\n".join(text for role, text in turns if role == "system")
    said = [text for role, text in turns if role == "user"]
    last, earlier = (said[-1], said[:-1]) if said else ("", [])
    if "[Final Verdict]" in last:
        return judge(last, knowledge, draw)
    if (graded := grade(last, knowledge)) is not None:
        return graded
    # The judge is no writer, but a config that uses it as one should get an answer rather than an error.
    writer = "brief" if agent == "judge" else agent
    if (instruction := _to_rewrite(last)) is not None:
        return rewrite(writer, instruction, prompt, draw)
    if found := _drafted(last):
        return respond(writer, found[0], earlier, found[1], knowledge, draw)
    return respond(writer, last, earlier, None, knowledge, draw)


def _text(content: object) -> str:
    """The text of a message: a string, or a list of parts of which the text parts count."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return "" if content is None else str(content)


def _logprobs(messages: Sequence[JsonMapping]) -> JsonObject:
    """What a judge that is asked for one letter tells of it, as OpenAI does; of anything else it is sure."""
    last = _text(messages[-1].get("content")) if messages else ""
    told = sorted(letter_logprobs(last, shipped_knowledge()).items(), key=lambda pair: -pair[1])
    top = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in told]
    return {"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}


def register() -> None:
    """Make ``offline/…`` models known to litellm. Calling it again changes nothing; other providers stay."""
    import litellm
    from litellm import utils
    from litellm.exceptions import NotFoundError
    from litellm.llms.custom_llm import CustomLLM
    from litellm.types.utils import ModelResponse, Usage

    class OfflineLLM(CustomLLM):  # type: ignore[misc]  # it is Any, since litellm is not followed
        """Answers litellm's calls; the rest of a request (keys, addresses, time limits) has no meaning here."""

        def completion(
            self,
            model: str,
            messages: list[JsonObject],
            *args: object,
            optional_params: JsonMapping | None = None,
            **kwargs: object,
        ) -> ModelResponse:
            name, params = model.removeprefix(f"{PROVIDER}/"), optional_params or {}
            if name not in AGENTS:
                known = ", ".join(f"{PROVIDER}/{agent}" for agent in AGENTS)
                raise NotFoundError(
                    message=f"there is no model {PROVIDER}/{name}; expected one of {known}",
                    model=name,
                    llm_provider=PROVIDER,
                )
            whole = reply(name, messages, params)
            content, was_cut = cut_to_tokens(whole, params.get("max_completion_tokens") or params.get("max_tokens"))
            n_prompt = sum(count_tokens(_text(message.get("content"))) for message in messages)
            n_completion = count_tokens(content)
            return ModelResponse(
                model=f"{PROVIDER}/{name}",
                choices=[
                    {
                        "index": 0,
                        "finish_reason": "length" if was_cut else "stop",
                        "message": {"role": "assistant", "content": content},
                        **(_logprobs(messages) if params.get("logprobs") else {}),
                    }
                ],
                usage=Usage(
                    prompt_tokens=n_prompt, completion_tokens=n_completion, total_tokens=n_prompt + n_completion
                ),
            )

        async def acompletion(
            self, *args: Any, **kwargs: Any
        ) -> ModelResponse:  # Any: as litellm's own, handed on as it comes
            # Milliseconds of computing: a thread would cost more than it frees.
            return self.completion(*args, **kwargs)

    if not any(item["provider"] == PROVIDER for item in litellm.custom_provider_map):
        litellm.custom_provider_map.append({"provider": PROVIDER, "custom_handler": OfflineLLM()})
    # litellm enters the names into its own lists at its next completion; whatever looks there sooner needs them now.
    utils.custom_llm_setup()
