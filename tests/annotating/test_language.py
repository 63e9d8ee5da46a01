import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.annotators.language import language_of

PROMPTS = Path(__file__).parents[3] / "shared" / "data" / "prompts"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Write a function that sorts a list.", "en"),
        ("请写一个排序函数。", "zh"),
        ("请分类以下5种水果：香蕉、西瓜、苹果、草莓、葡萄。", "zh"),
        ("この関数を説明してください。", "ja"),
        ("กรุณาอธิบายฟังก์ชันนี้", "th"),
        ("Schreibe eine Funktion, die eine Liste sortiert.", "de"),
        ("Напиши функцию, которая сортирует список.", "ru"),
    ],
)
def test_the_language_of_a_sentence_is_found(text: str, language: str) -> None:
    """A sentence is told to be in its language, members of a macrolanguage under the one code."""
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", " \n", "12 + 30 = 42", "… ?!", "_"])
def test_without_a_letter_there_is_no_language(text: str) -> None:
    """What has no word made of letters is undetermined, never guessed at."""
    assert language_of(text) == "und"


@given(st.text())
@settings(max_examples=50)
def test_every_text_has_one_code(text: str) -> None:
    """Any text at all gives a two-letter code or `und`, and the same one again."""
    found = language_of(text)
    assert found == "und" or len(found) == 2
    assert language_of(text) == found


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the data sets are not beside the checkout")
def test_real_prompts_are_told_apart() -> None:
    """Of real prompts in English and in Chinese, hardly one is taken for another language."""
    lines = (PROMPTS / "mt_bench_question.jsonl").read_text("utf-8").splitlines()
    english = Counter(language_of(turn) for line in lines for turn in json.loads(line)["turns"])
    lines = (PROMPTS / "belle_eval_set.json").read_text("utf-8").splitlines()
    chinese = Counter(language_of(json.loads(line)["question"]) for line in lines)
    assert english["en"] / english.total() >= 0.98
    assert chinese["zh"] / chinese.total() >= 0.97
    assert set(chinese) <= {"zh", "en", "und"}
