"""Which mined preferences and made-up questions are worth keeping: rules over what a judge has scored already.

Nothing here asks a model. Whoever samples answers and has them judged hands both in, and gets back what to keep, with
the reason of everything else: `considered` = kept + the sum of `skipped`, always.

Texts are the same where they are equal without the white space around them, and nearly so where
`difflib.SequenceMatcher` finds more than `SIMILAR` of them in common.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import combinations

import msgspec

from ingest.replay.sections import Malformed, pairs, section_id, written
from lake.errors import UsageError

SIMILAR = 0.95
SAMPLES = 4  # answers to ask for; two are the least that can be compared
BASELINE = "I don't know."  # what a made-up answer has to be better than
# What a judge's scores must differ by to say anything, by the kind of judge.
THRESHOLDS = {"sway": 0.1, "cli": 0.1, "reward-model": 1.0}

MINING_REASONS = (
    "malformed_instruction",
    "duplicate_prompt",
    "insufficient_variety",
    "too_similar",
    "below_threshold",
    "already_present",
)
SYNTHESIS_REASONS = ("duplicate_pair", "judge_disfavored", "below_threshold")


class Questions(msgspec.Struct, frozen=True):
    """The questions to ask, each once, and why other ones are not among them."""

    questions: tuple[str, ...]
    considered: int
    skipped: dict[str, int]


class Sampled(msgspec.Struct, frozen=True):
    """Answers to a prompt, with a judge's score for each."""

    prompt: str
    answers: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.answers) != len(self.scores):
            raise UsageError(f"{len(self.answers)} answers have {len(self.scores)} scores", "give one for each")
        if not all(map(math.isfinite, self.scores)):
            raise UsageError("a score is not a finite number", "leave out what the judge could not score")


class Preferred(msgspec.Struct, frozen=True):
    """A pair that is worth keeping. `content` is its section."""

    prompt: str
    chosen: str
    rejected: str
    judge_score_chosen: float
    judge_score_rejected: float

    @property
    def content(self) -> str:
        """The pair as the content of a preference section."""
        return written("preference", {name: getattr(self, name) for name in ("prompt", "chosen", "rejected")})


class Mined(msgspec.Struct, frozen=True):
    """What a mining came to."""

    kept: tuple[Preferred, ...]
    considered: int
    skipped: dict[str, int]


class MadeUp(msgspec.Struct, frozen=True):
    """A question and answer that a model made up, with a judge's scores of the answer and of `BASELINE` to it."""

    question: str
    answer: str
    score: float
    baseline_score: float


class Sifted(msgspec.Struct, frozen=True):
    """What of the made-up ones is left: all, those that are no copies, those better than nothing, and by enough."""

    accepted: tuple[MadeUp, ...]
    generated: int
    distinct: int
    passed: int
    skipped: dict[str, int]


def questions_of(contents: Iterable[str]) -> Questions:
    """The questions of instruction sections that answers can be sampled for, in order, each text once."""
    found: dict[str, None] = {}
    skipped: Counter[str] = Counter()
    considered = 0
    for content in contents:
        try:
            asked = [question for question, _ in pairs(content)]
        except Malformed:
            considered += 1
            skipped["malformed_instruction"] += 1
            continue
        for question in asked:
            considered += 1
            skipped["duplicate_prompt"] += question in found
            found[question] = None
    return Questions(tuple(found), considered, _told(skipped))


def mine(sampled: Iterable[Sampled], threshold: float, present: Collection[str] = ()) -> Mined:
    """The pair of each prompt whose scores are furthest apart, if that is at least `threshold` and more than nothing.

    `present` are the ids of the sections that there are already. Of pairs that are equally far apart the first counts.
    Raises UsageError for a bad threshold.
    """
    _check(threshold)
    kept: dict[str, Preferred] = {}
    skipped: Counter[str] = Counter()
    considered = 0
    prompts = set()
    for one in sampled:
        considered += 1
        prompt = one.prompt.strip()
        found = "duplicate_prompt" if prompt in prompts else _pair(one, threshold)
        prompts.add(prompt)
        if isinstance(found, str):
            skipped[found] += 1
            continue
        made = section_id("preference", found.content)
        if made in present:
            skipped["already_present"] += 1
        else:
            kept[made] = found
    return Mined(tuple(kept.values()), considered, _told(skipped))


def sift(made_up: Sequence[MadeUp], threshold: float) -> Sifted:
    """The made-up pairs that are no copy of one before, are judged better than `BASELINE`, and by `threshold` at least.

    A copy asks the same question, or is nearly the same text as a whole. Raises UsageError for a bad threshold.
    """
    _check(threshold)
    skipped: Counter[str] = Counter()
    distinct: list[MadeUp] = []
    for one in made_up:
        if any(_is_copy(one, other) for other in distinct):
            skipped["duplicate_pair"] += 1
        else:
            distinct.append(one)
    passed = [one for one in distinct if one.score > one.baseline_score]
    skipped["judge_disfavored"] = len(distinct) - len(passed)
    accepted = tuple(one for one in passed if one.score - one.baseline_score >= threshold)
    skipped["below_threshold"] = len(passed) - len(accepted)
    return Sifted(accepted, len(made_up), len(distinct), len(passed), _told(skipped))


def are_similar(one: str, other: str) -> bool:
    """Whether two texts have more than `SIMILAR` of them in common. The same whichever comes first."""
    first, second = sorted((one.strip(), other.strip()))
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    # The first two are upper bounds of the third, and cheap.
    return all(ratio() > SIMILAR for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio))


def _pair(one: Sampled, threshold: float) -> Preferred | str:
    """The best pair of some answers, or why there is none."""
    distinct = dict[str, float]()
    for answer, score in zip(one.answers, one.scores, strict=True):
        if answer.strip():
            distinct.setdefault(answer.strip(), score)
    if len(distinct) < 2 or not one.prompt.strip():
        return "insufficient_variety"
    unlike = [(a, b) for a, b in combinations(distinct, 2) if not are_similar(a, b)]
    if not unlike:
        return "too_similar"
    chosen, rejected = max(unlike, key=lambda pair: abs(distinct[pair[0]] - distinct[pair[1]]))
    if distinct[chosen] < distinct[rejected]:
        chosen, rejected = rejected, chosen
    margin = distinct[chosen] - distinct[rejected]
    if margin <= 0 or margin < threshold:
        return "below_threshold"
    return Preferred(one.prompt.strip(), chosen, rejected, distinct[chosen], distinct[rejected])


def _is_copy(one: MadeUp, other: MadeUp) -> bool:
    if one.question.strip() == other.question.strip():
        return True
    return are_similar(f"{one.question}\n{one.answer}", f"{other.question}\n{other.answer}")


def _check(threshold: float) -> None:
    if not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"the threshold cannot be {threshold}", "it is a finite number of at least 0")


def _told(skipped: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(skipped.items()) if count}
