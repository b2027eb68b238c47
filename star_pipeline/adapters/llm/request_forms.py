"""What a server refuses of a request, and how the request is put instead: learnt from its own words, or by trying.

A request's name in the journal is that of the request as it was asked: a reply to an adapted one is found again like any other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from star_pipeline.adapters.llm.failures import NEEDS_LOGPROBS, Failure
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.equations.ifd_templates import with_system_in_first_question
from star_pipeline.core.errors import AgentDown
from star_pipeline.core.ports import ChatRequest

_NO_SYSTEM = re.compile(
    r"(system|developer) (role|message|prompt|instruction)s?\b.{0,60}(not|n't|un)[ -]?(be )?(support|allow|enabled|permit|accept)"
    r"|(not|n't|un)[ -]?(support|allow|permit|accept)\w* .{0,40}['\"`]?system['\"`]? (role|message|prompt|instruction)"
    r"|roles? must alternate|does not support ['\"`]?system|only user.{0,20}assistant.{0,20}(role|message)"
    r"|(invalid|unknown|unexpected|unsupported)\b.{0,40}\brole\b.{0,40}system",
)
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSED = re.compile(
    r"not support|n't support|unsupported|unrecogni|unknown|unexpected|not permitted|not allowed|extra (input|field)|invalid|deprecated"
    r"|only the default|too (large|small|high|low)|must be|should be|out of range|less than|greater than|cannot be|can't be"
)
_STATED_LIMIT = re.compile(r"(?:context (?:length|window|size)|max_model_len|model length)\D{0,20}([\d,]+)")
_FEW, _MANY = 5, 20


@dataclass(frozen=True)
class RequestForm:
    """How requests are put to a server that does not take them as they are."""

    system_folded: bool = False
    left_out: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()

    def messages(self, request: ChatRequest) -> list[dict[str, str]]:
        """As OpenAI's; an empty system message is none."""
        told = [{"role": message.role, "content": message.content} for message in request.messages]
        told = [message for message in told if message["role"] != "system" or message["content"].strip()]
        folded = with_system_in_first_question(told) if self.system_folded else None
        return [dict(message) for message in folded] if folded else told

    def params(self, request: ChatRequest, agent: AgentConfig) -> JsonObject:
        given = {name: value for name, value in request.params.items() if name not in self.left_out & request.optional}
        # two names of one limit: the request's own counts
        usual = {name: value for name, value in agent.params.items() if _OTHER_NAME.get(name) not in given}
        given = {**usual, **given}
        if request.sample and "seed" not in self.left_out:
            given["seed"] = request.sample
        for name in self.renamed & given.keys():
            given.setdefault(_OTHER_NAME[name], given.pop(name))
        return given

    def with_all(self, other: "RequestForm") -> "RequestForm":
        return RequestForm(
            self.system_folded or other.system_folded, self.left_out | other.left_out, self.renamed | other.renamed
        )


class Adaptation:
    """What is known of one agent's server."""

    def __init__(self) -> None:
        self.form = RequestForm()
        self.answered = False
        self._taken: set[tuple[str, str]] = set()
        self._refusals: tuple[str, int] = ("", 0)

    def another(
        self, request: ChatRequest, agent: AgentConfig, tried: list[RequestForm], failure: Failure
    ) -> RequestForm | None:
        """The form to try next, after the last of those tried was refused; None where there is none.

        The server's words decide; one that has not answered yet may be tried without.
        """
        if failure.kind in ("bad_request", "server_error"):
            for form in self._thinkable(request, agent, tried[-1], failure):
                if form not in tried and any(
                    form.messages(request) != old.messages(request)
                    or form.params(request, agent) != old.params(request, agent)
                    for old in tried[-1:]
                ):
                    return form
        return None

    def _thinkable(
        self, request: ChatRequest, agent: AgentConfig, last: RequestForm, failure: Failure
    ) -> Iterator[RequestForm]:
        said, optional = failure.said.lower(), self._optional(request)
        if self.form != last:
            yield self.form.with_all(last)
        if _NO_SYSTEM.search(said):
            yield replace(last, system_folded=True)
        if failure.kind != "bad_request":
            return
        named = refused_parameter(said, last.params(request, agent))
        if named in optional:
            yield replace(last, left_out=last.left_out | {named})
        elif named in _OTHER_NAME and (_OTHER_NAME[named] in said or named == "max_completion_tokens"):
            yield replace(last, renamed=frozenset({named}))
        if not self.answered:
            yield replace(self.form, system_folded=True)
            yield replace(self.form, left_out=self.form.left_out | optional)
            yield replace(self.form, system_folded=True, left_out=self.form.left_out | optional)

    def took(self, name: str, request: ChatRequest, agent: AgentConfig, form: RequestForm) -> list[str]:
        """The server answered a request in this form; returns what is new, to be told."""
        self.answered, self._refusals = True, ("", 0)
        self._taken.update((key, repr(value)) for key, value in form.params(request, agent).items())
        known, self.form = self.form, self.form.with_all(form)
        who = f"agent {name} ({agent.model}): its server"
        news = [f"{who} refuses {given}, which nobody set; it is left out" for given in form.left_out - known.left_out]
        news += [
            f"{who} wants {_OTHER_NAME[old]} in place of {old}, and gets it" for old in form.renamed - known.renamed
        ]
        if form.system_folded and not known.system_folded:
            news.append(f"{who} takes no system message; its text is put at the head of the user's first message")
        return news

    def refused(self, name: str, request: ChatRequest, agent: AgentConfig, form: RequestForm, failure: Failure) -> None:
        """A request was refused for good. Raises AgentDown where that is not the request's own fault."""
        if failure.kind not in ("bad_request", "context_too_long"):
            return
        given = form.params(request, agent)
        named = refused_parameter(failure.said.lower(), given) if failure.kind == "bad_request" else None
        named = named or beyond_the_context(failure.said.lower(), given)
        if named and (named, repr(given[named])) not in self._taken and named != "seed":
            section = "judge.params" if named in request.params else f"agents.{name}.params"
            todo = NEEDS_LOGPROBS if named == "logprobs" else f"change it or take it out in {section}"
            if named == "top_logprobs" and named in request.params:
                todo = "set it in judge.params to as many as the server tells"
            raise AgentDown(
                f"agent {name}: its server refuses {named}: {given[named]!r}: {failure}; {todo}, then run again: what was answered stays"
            )
        if failure.kind != "bad_request":
            return
        way = re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "", str(failure))
        self._refusals = (way, self._refusals[1] + 1 if self._refusals[0] == way else 1)
        if self._refusals[1] >= (_MANY if self.answered else _FEW):
            what = "its last" if self.answered else "it has not answered once, and its first"
            raise AgentDown(
                f"agent {name}: {what} {self._refusals[1]} requests were refused in the same way: {failure}; mend its model, "
                "params or prompts (see star-pipeline doctor), then run again: what was answered stays"
            )

    def _optional(self, request: ChatRequest) -> frozenset[str]:
        return request.optional | ({"seed"} if request.sample else frozenset())


def refused_parameter(said: str, given: JsonObject) -> str | None:
    """The parameter that a server's words, in small letters, refuse; None where they name none of the given ones."""
    if not _REFUSED.search(said):
        return None
    for name in sorted(given, key=len, reverse=True):
        # a short name is a word like any other unless it stands in quotes
        free = rf"|(?<![\w.]){name}(?!\w)" if "_" in name or len(name) >= 8 else ""
        if re.search(rf"['\"`]{re.escape(name.lower())}['\"`]{free.lower()}", said):
            return name
    return None


def beyond_the_context(said: str, given: JsonObject) -> str | None:
    """The parameter that alone asks for more tokens than the context that the server tells of."""
    stated = _STATED_LIMIT.search(said)
    if not stated:
        return None
    for name in _OTHER_NAME:
        if isinstance(given.get(name), int) and given[name] >= int(stated[1].replace(",", "") or 10**12):
            return name
    return None
