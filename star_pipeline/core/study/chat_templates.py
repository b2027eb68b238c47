"""The scoring templates as chat templates of a tokenizer, so that a tuned model is asked as it was taught (Eq. 4)."""

import json
from typing import Literal

from star_pipeline.core.equations.ifd_templates import ALPACA_PREAMBLE

TaughtStart = Literal["token", "newline"]
"""What a taught conversation begins with, as in ``ifd_templates.Start``: in a pass that is taught no token is left out."""

_ANSWER = "{%- generation -%}{{- turn['content'] ~ eos_token -}}{%- endgeneration -%}"
"""What the model is taught: its last answer and the end token."""
_ALPACA = (
    """{%- set told = messages[0]['content'] if messages[0]['role'] == 'system' else '' -%}
{{- start ~ (told or """
    + json.dumps(ALPACA_PREAMBLE)
    + r""") -}}
{%- for turn in messages if turn['role'] != 'system' -%}
  {%- if turn['role'] != 'assistant' -%}
    {{- '\n\n### Instruction:\n' ~ turn['content'] -}}
  {%- elif loop.last -%}
    {{- '\n\n### Response:' -}}"""
    + _ANSWER
    + r"""
  {%- else -%}
    {{- '\n\n### Response:\n' ~ turn['content'] -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\n\n### Response:' -}}{%- endif -%}
"""
)
_PLAIN = (
    r"""{{- start -}}
{%- for turn in messages if turn['content'] or turn['role'] != 'system' -%}
  {%- if turn['role'] == 'assistant' and loop.last -%}"""
    + _ANSWER
    + r"""{%- else -%}{{- turn['content'] ~ '\n' -}}{%- endif -%}
{%- endfor -%}
"""
)


def chat_template(template: Literal["alpaca", "plain"], start: TaughtStart, has_bos: bool) -> str:
    """The Jinja text that renders messages as ``ifd_templates.prompt_text`` does, start token first.

    A conversation that ends with the assistant is closed by the end token, and ``generation`` marks its last answer: the loss of
    trainers that read these marks is taken there. Earlier answers stand as the prompt shows them, without an end token.
    """
    before = "bos_token" if has_bos else "eos_token"
    text = f"{before} ~ '\\n'" if start == "newline" else before
    return f"{{%- set start = {text} -%}}\n" + (_ALPACA if template == "alpaca" else _PLAIN)
