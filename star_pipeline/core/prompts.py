"""Prompts as Jinja files: what the agents and the judge are told (Eq. 2, Eq. 6).

A template has a ``system`` and a ``user`` block, each rendered on its own, so that no text inside a seed can be mistaken
for the border between two messages. The user's own files (config ``prompts: {name: path}``) take the place of the shipped ones.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jinja2

from star_pipeline.core.errors import ConfigError
from star_pipeline.core.records import Message

INSTRUCTION_PROMPTS = ("rewrite", "deepen", "constrain", "concretise", "reason", "broaden")
RESPONSE_PROMPTS = ("respond",)
OTHER_PROMPTS = ("refine", "judge_answers", "judge_samples")
SHIPPED = INSTRUCTION_PROMPTS + RESPONSE_PROMPTS + OTHER_PROMPTS


@dataclass(frozen=True)
class PromptLibrary:
    """The templates by name; ``overrides`` maps a name to the text of the user's own template."""

    overrides: Mapping[str, str]

    @cached_property
    def _environment(self) -> jinja2.Environment:
        loader = jinja2.ChoiceLoader(
            [jinja2.DictLoader(dict(self.overrides)), jinja2.PackageLoader("star_pipeline.core", "templates")]
        )
        return jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: self._source(loader, name)),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
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
            source = self._environment.loader.get_source(self._environment, name)[0]  # type: ignore[union-attr]
            self._versions[name] = hashlib.sha256(source.encode()).hexdigest()[:12]
        return self._versions[name]

    def messages(
        self, name: str, variables: Mapping[str, object], turns_between: tuple[Message, ...] = ()
    ) -> tuple[Message, ...]:
        """Render template ``name`` to chat messages: system, ``turns_between``, user.

        Raises ConfigError where the template is missing, is no valid Jinja, lacks a block or uses an unknown variable.
        """
        try:
            template = self._environment.get_template(name)
            context = template.new_context(dict(variables))
            system, user = ("".join(template.blocks[block](context)).strip() for block in ("system", "user"))
        except KeyError as error:
            raise ConfigError(
                f"prompt {name!r} has no block {error}; expected {{% block system %}} and {{% block user %}}"
            ) from error
        except jinja2.TemplateNotFound as error:
            raise ConfigError(
                f"prompt {name!r} is not there; expected one of {', '.join(SHIPPED)} or prompts: {{{name}: file}}"
            ) from error
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"prompt {name!r} cannot be rendered: {error}; mend the file named under prompts:"
            ) from error
        return (Message("system", system), *turns_between, Message("user", user))
