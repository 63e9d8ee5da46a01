"""Which language a text is in, by py3langid, which ships its model and so needs no network.

    language_of("请解释这个函数")  # "zh"

One answer a text: a prompt that asks in Chinese about a page of English code may well be found English.

Not here: scripts, dialects, or how sure one can be: a few words give a guess.
"""

from collections.abc import Iterable, Iterator, Sequence

import py3langid

from ingest.annotators.annotator import Finding, Known, Look, Target
from ingest.annotators.near_duplicate import whole
from ingest.annotators.text import words

__all__ = ["UNDETERMINED", "Language", "language_of"]

UNDETERMINED = "und"

_LOOKED_AT = 20_000  # characters of an event; a language shows in fewer

# The model also tells apart what ISO 639-1 has one code for (ISO 639-3, macrolanguages).
_MEMBERS = {
    "arz": "ar",
    "ary": "ar",
    "fuv": "ff",
    "gug": "gn",
    "kik": "ki",
    "sdh": "ku",
    "uzs": "uz",
    "wuu": "zh",
    "yue": "zh",
}


def language_of(text: str) -> str:
    """The ISO 639-1 code of a text's language, or `und`: without a letter, or in a language that has no such code."""
    if not any(word[0].isalpha() for word in words(text)):
        return UNDETERMINED
    label = str(py3langid.classify(text)[0])
    code = _MEMBERS.get(label, label)
    return code if len(code) == 2 else UNDETERMINED


class Language:
    """The annotator: `label` is the language of all that an event says."""

    name = "language"
    version = "1"
    digest = None
    kinds = ("evidence", "prompts", "replay")
    known = Known.nothing

    def over(self, _known: Iterable[Target], /) -> Look:
        """Look at each event by itself."""

        def look(targets: Sequence[Target]) -> Iterator[Finding]:
            return (Finding(language_of(whole(target)[:_LOOKED_AT])) for target in targets)

        return look
