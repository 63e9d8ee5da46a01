"""Makes small word problems with worked answers, and answers that invented models gave, as GSM8K has them.

`lake demo --train` trains a toy model on those that are right, and measures it on problems that it never saw. Always
the same, for the same seed; nothing of it is anybody's data.

Not here: judging the answers; `lake score final-answer` does.
"""

from collections.abc import Iterator
from random import Random

__all__ = ["attempts", "problems"]

SEED = 20260302
HIGHEST = 12

_NAMES = ("Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
_THINGS = ("apples", "books", "coins", "marbles", "pens", "shells", "stamps", "tickets")
_GAINS = ("buys", "finds", "is given", "wins")
_LOSSES = ("gives away", "loses", "sells", "uses")
# How often an invented model is right.
_MODELS = {"wren-1b": 0.4, "heron-32b": 0.8}


def problems(count: int, seed: int = SEED) -> Iterator[dict[str, str]]:
    """So many different problems: a `question`, and a worked `answer` that ends in `#### <number>`."""
    chance = Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        made = _problem(chance)
        if made["question"] not in seen:
            seen.add(made["question"])
            yield made


def attempts(given: list[dict[str, str]], seed: int = SEED) -> Iterator[dict[str, str]]:
    """What each invented model answered to each problem, right or not, as evidence without a verdict."""
    chance = Random(seed)
    for problem in given:
        for model, skill in _MODELS.items():
            answer = problem["answer"]
            if chance.random() > skill:
                worked, _, right = answer.rpartition("#### ")
                wrong = str(int(right) + chance.choice((-2, -1, 1, 2)))
                answer = f"{worked.replace(f'= {right}', f'= {wrong}')}#### {wrong}"
            yield {"question": problem["question"], "model": model, "answer": answer}


def _problem(chance: Random) -> dict[str, str]:
    name, thing = chance.choice(_NAMES), chance.choice(_THINGS)
    has, more = chance.randint(2, HIGHEST), chance.randint(2, HIGHEST)
    gains = chance.random() < 0.5
    if not gains:
        has += more
    does = chance.choice(_GAINS if gains else _LOSSES)
    left = has + more if gains else has - more
    question = f"{name} has {has} {thing} and {does} {more} of them. How many {thing} does {name} have now?"
    if gains:
        question = f"{name} has {has} {thing} and {does} {more} more. How many {thing} does {name} have now?"
    return {
        "question": question,
        "answer": f"{name} has {has} {'+' if gains else '-'} {more} = {left} {thing}.\n#### {left}",
    }
