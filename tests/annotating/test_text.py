from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.annotators import text as module
from ingest.annotators.text import located, normalised, words

UNSPACED = {
    "Chinese": "请解释这个函数",
    "Japanese": "この関数を説明してください",
    "Thai": "กรุณาอธิบายฟังก์ชันนี้",
    "Khmer": "សូមពន្យល់អនុគមន៍នេះ",
}
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet=st.sampled_from("aZ09_'’ .,é\u0301ÅΣσſﬁ①㍿Ｋｶﾞ가ᄀ\u1161你好のกำ\u0e34İ\n")),
)


def test_a_sentence_without_spaces_is_many_words() -> None:
    """A script that is written without spaces counts by the character, its marks with their letter."""
    for language, sentence in UNSPACED.items():
        found = words(sentence)
        assert len(found) > 5, language
        assert all(len(normalised(word)) <= 3 for word in found), language
    assert words("请解释这个函数") == list("请解释这个函数")


def test_words_of_spaced_scripts_stay_whole() -> None:
    """Marks and apostrophes belong to their word, and punctuation belongs to none."""
    assert words("Don’t panic! It's self.x_1 = 3.14") == ["don’t", "panic", "it's", "self", "x_1", "3", "14"]
    assert words("हिन्दी में लिखो") == ["हिन्दी", "में", "लिखो"]
    assert words("이 함수를 설명해") == ["이", "함수를", "설명해"]
    assert words("Größe naïve") == ["größe", "naïve"]
    assert words("用Python写3行") == ["用", "python", "写", "3", "行"]
    assert words("... ?! — 。") == []


@given(TEXTS)
def test_writing_it_otherwise_changes_no_word(text: str) -> None:
    """Case, width and composition make no difference, and normalising twice is normalising once."""
    assert words(normalised(text)) == words(text)
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_cut_for_ascii_finds_the_same(text: str) -> None:
    """The pattern for ASCII text finds what the pattern for all text finds."""
    assert words(text) == module._WORD.findall(normalised(text))


@given(TEXTS)
def test_each_word_is_found_again_in_its_place(text: str) -> None:
    """The located words are the words, in order, and what stands at a place normalises to what holds the word."""
    places = located(text)
    assert [word.text for word in places] == words(text)
    for word in places:
        assert 0 <= word.start < word.end <= len(text)
        there = normalised(text[word.start : word.end])
        assert set(word.text.replace("ς", "σ")) <= set(there.replace("ς", "σ"))  # which sigma it is, its neighbours say
    assert all(left.start <= right.start for left, right in pairwise(places))


def test_places_survive_ligatures_and_composition() -> None:
    """A place is counted in characters of the text as given, also where normalising makes more or fewer of them."""
    text = "ﬁne cafe\u0301 ｶﾞス 你好"
    assert [text[word.start : word.end] for word in located(text)] == ["ﬁne", "cafe\u0301", "ｶﾞ", "ス", "你", "好"]
