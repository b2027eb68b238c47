"""Prompts as Jinja files: what the agents and the judge are told (Eq. 2, Eq. 6).

A template has a ``system`` and a ``user`` block, each rendered on its own, so that no text inside a seed can be mistaken
for the border between two messages. The user's own files (config ``prompts: {name: path}``) take the place of the shipped ones.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jinja2
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from star_pipeline.core.errors import ConfigError
from star_pipeline.core.records import Message

INSTRUCTION_PROMPTS = ("rewrite", "deepen", "constrain", "concretise", "reason", "broaden")
RESPONSE_PROMPTS = ("respond",)
OTHER_PROMPTS = ("refine", "judge_answers", "judge_samples")
STUDY_PROMPTS = ("grade_answer",)
SHIPPED = INSTRUCTION_PROMPTS + RESPONSE_PROMPTS + OTHER_PROMPTS + STUDY_PROMPTS


_GUARD = "\ue0fe\ufdd0"
"""Stands around a value while a template is rendered, so that the template's own blanks at the edges are told from the value's."""
_LONGEST_PART = 1_000_000
_LONGEST_PROMPT = 20_000_000


class _Sandbox(ImmutableSandboxedEnvironment):
    """A template may come with a configuration from anywhere: it sees the values it is given, and cannot make texts without end."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        # Any: a template multiplies what it likes, and Jinja catches what Python says to it
        if operator == "**" and not (abs(left) <= 1_000_000 and abs(right) <= 64):
            raise OverflowError("the power is too large")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and len(many) * times > _LONGEST_PART:
                    raise OverflowError(f"it would be longer than {_LONGEST_PART:,}")
        if operator == "%" and isinstance(left, str) and re.search(r"\d{7}|\*", left):
            raise OverflowError("the width is too large")
        return super().call_binop(context, operator, left, right)


@dataclass(frozen=True)
class PromptLibrary:
    """The templates by name; ``overrides`` maps a name to the text of the user's own template, ``files`` to where it stands."""

    overrides: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _environment(self) -> jinja2.Environment:
        loader = jinja2.ChoiceLoader(
            [jinja2.DictLoader(dict(self.overrides)), jinja2.PackageLoader("star_pipeline.core.equations", "templates")]
        )
        return _Sandbox(
            loader=jinja2.FunctionLoader(lambda name: self._source(loader, name)),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            finalize=_guarded,
        )

    @cached_property
    def _versions(self) -> dict[str, str]:
        """Kept, since every request asks, and a look into the package costs more than the answer."""
        return {}

    def _source(self, loader: jinja2.BaseLoader, name: str) -> str:
        file = name if name in self.overrides else f"{name}.jinja"
        return loader.get_source(jinja2.Environment(), file)[0]

    def version(self, name: str) -> str:
        """First 12 hex digits of the template text's SHA-256: part of every request's identity."""
        if name not in self._versions:
            source = self._environment.loader.get_source(self._environment, name)[0]  # type: ignore[union-attr]  # ours has one
            self._versions[name] = hashlib.sha256(source.encode()).hexdigest()[:12]
        return self._versions[name]

    def messages(
        self, name: str, variables: Mapping[str, object], turns_between: tuple[Message, ...] = ()
    ) -> tuple[Message, ...]:
        """Render template ``name`` to chat messages: system, ``turns_between``, user.

        Blanks at a message's edges are the template's and go, those of a value stay: what is asked is what is scored and judged.
        Raises ConfigError, naming file and line, where the template is missing, lacks a block, or cannot be rendered.
        """
        try:
            template = self._environment.get_template(name)
        except jinja2.TemplateNotFound as error:
            raise ConfigError(
                f"prompt {name!r} is not there; expected one of {', '.join(SHIPPED)} or prompts: {{{name}: file}}"
            ) from error
        except jinja2.TemplateSyntaxError as error:
            raise self._broken(name, error.lineno, error) from error
        except Exception as error:
            raise self._broken(name, None, error) from error
        for block in ("system", "user"):
            if block not in template.blocks:
                raise self._broken(
                    name, None, f"no block {block!r}; expected {{% block system %}} and {{% block user %}}"
                )
        context = template.new_context(dict(variables))
        try:
            system, user = (_rendered(template.blocks[block](context)) for block in ("system", "user"))
        except Exception as error:
            raise self._broken(name, _line(template, error), error) from error
        return (Message("system", system), *turns_between, Message("user", user))

    def _broken(self, name: str, line: int | None, error: Exception | str) -> ConfigError:
        where = self.files.get(name)
        place = (f" ({where}" if where else " (") + (", " if where and line else "") + (f"line {line}" if line else "")
        place = f"{place})" if where or line else ""
        said = " ".join(str(error).split())[:300] or "no more is known"
        if isinstance(error, jinja2.TemplateNotFound):
            said = f"there is no template {said} to take in"
        kind = "" if isinstance(error, str | jinja2.TemplateError) else f"{type(error).__name__}: "
        return ConfigError(
            f"prompt {name!r}{place} cannot be rendered: {kind}{said}; mend the file named under prompts:"
        )


def wording_of(messages: Iterable[Message], variables: Mapping[str, object]) -> tuple[str, ...]:
    """What a prompt's messages say beside the values they were given: the pieces between them."""
    values = {value.strip() for value in variables.values() if isinstance(value, str)}
    turns = variables.get("history") or ()
    values |= (
        {turn.content.strip() for turn in turns if isinstance(turn, Message)} if isinstance(turns, tuple) else set()
    )
    between = "|".join(re.escape(value) for value in sorted(values - {""}, key=len, reverse=True))
    pieces = [re.split(between, message.content) if between else [message.content] for message in messages]
    return tuple(piece for parts in pieces for piece in parts if piece.strip())


def _guarded(value: object) -> object:
    if isinstance(value, jinja2.Undefined):
        return value  # it tells its own name where it is written
    return f"{_GUARD}{value}{_GUARD}" if isinstance(value, str) else value


def _rendered(parts: Iterable[str]) -> str:
    made, length = [], 0
    for part in parts:
        made.append(part)
        length += len(part)
        if length > _LONGEST_PROMPT:
            raise OverflowError(f"the prompt is longer than {_LONGEST_PROMPT:,} characters")
    return "".join(made).strip().replace(_GUARD, "")


def _line(template: jinja2.Template, error: BaseException) -> int | None:
    """The template's line that an error came from."""
    found, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_globals.get("__jinja_template__") is template:
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found
