"""Chat templates: which one a conversation is written by, and what it has to say of itself to be learned from.

A template says with `{% generation %}` and `{% endgeneration %}` what the assistant says. Known templates that lack it
have a counterpart in TRL that does not; any other is refused. What writes the day is told one: a clock has no say in
what is trained on.

Not here: writing by them (`rendering`).
"""

import copy
import importlib
import re
from datetime import datetime
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lake.errors import UsageError

MARK_IT = "put {% generation %} before what the assistant says, and {% endgeneration %} behind the token that ends it"

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def template_in(path: Path) -> str:
    """The chat template in a file. Raises UsageError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", "name a chat template, a file of Jinja") from None


def chosen(tokenizer: PreTrainedTokenizerBase, given: str | None, *, learned: bool) -> str:
    """The chat template, or its counterpart that says what the assistant says, where that is to be `learned`."""
    own = tokenizer.chat_template
    template = given if given is not None else own["default"] if isinstance(own, dict) else own
    called = (
        "the chat template" if given is not None else f"the chat template of {tokenizer.name_or_path or 'the model'}"
    )
    if template is None:
        raise UsageError(
            f"{tokenizer.name_or_path or 'the tokenizer'} has no chat template, and the rows are conversations",
            'name one: data.template = "FILE.jinja"',
        )
    if not learned or _GENERATION.search(template):
        return template
    patched = copy.copy(tokenizer)
    patched.chat_template = template
    # TRL takes seconds to import, and most templates that are trained with need nothing of it.
    known = importlib.import_module("trl.chat_template_utils")
    try:
        return str(known.get_training_chat_template(patched))
    except ValueError:
        raise UsageError(
            f"{called} does not mark what the assistant says, and TRL knows none that does", MARK_IT
        ) from None


def dated(template: str, date: str | None) -> str:
    """The template, with this day instead of today's."""
    forms = re.findall(r"""strftime_now\(\s*['"]([^'"]*)['"]\s*\)""", template)
    if not forms:
        return template
    if date is None:
        raise UsageError(
            "the chat template writes the day, and every day would have shards of its own",
            'say the day in a policy (data.policy): {"harmony": {"date": "2026-01-31"}}',
        )
    day = datetime.fromisoformat(date)
    cases = "".join(
        f"{{%- if form == '{form}' -%}}{day.strftime(form)}{{%- endif -%}}" for form in dict.fromkeys(forms)
    )
    return f"{{%- macro strftime_now(form) -%}}{cases}{{%- endmacro -%}}{template}"
