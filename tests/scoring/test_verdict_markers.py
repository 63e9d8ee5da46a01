"""The scorer `verdict-markers`, with the rules that come with it and with others."""

import tomllib

import pytest

from ingest.scorers.configuration import BadConfiguration
from ingest.scorers.scorer import NotScored
from ingest.scorers.verdict_markers import EXAMPLE, VerdictMarkers


@pytest.fixture(scope="module")
def shipped() -> VerdictMarkers:
    return VerdictMarkers.read()


# (stream, text and extra of the evidence, category, what the reason says)
CASES = [
    ("scrum_reviews", {"markers": ["accepted_on_attempt_1"]}, "accepted", "attempt 1"),
    ("scrum_reviews", {"markers": ["accepted_on_attempt_2"]}, "partially_accepted", "attempt 2"),
    ("scrum_reviews", {"markers": ["x", "accepted_on_attempt_3"]}, "partially_accepted", "attempt 3"),
    ("scrum_reviews", {"markers": ["accepted_on_attempt_4"]}, "partially_accepted", "high cost: accepted on attempt 4"),
    ("scrum_reviews", {"markers": ["accepted_on_attempt_12"]}, "partially_accepted", "high cost"),
    ("scrum_reviews", {"markers": []}, "needs_human_review", "no marker"),
    ("scrum_reviews", {}, "needs_human_review", "no marker"),
    ("observer_reviews", {"observer_verdict": "accept"}, "accepted", "accepts"),
    ("observer_reviews", {"observer_verdict": "Reject "}, "rejected", "rejects"),
    ("observer_reviews", {"observer_verdict": "cycle"}, "partially_accepted", "cycle"),
    ("observer_reviews", {"observer_verdict": "perhaps"}, "needs_human_review", "no verdict"),
    ("observer_reviews", {}, "needs_human_review", "no verdict"),
    ("audits", {"severity": "info"}, "accepted", "severity info"),
    ("audits", {"severity": "low"}, "accepted", "severity low"),
    ("audits", {"severity": "medium"}, "partially_accepted", "severity medium"),
    ("audits", {"severity": "high"}, "rejected", "severity high"),
    ("audits", {"metadata": {"severity": "critical"}}, "rejected", "severity critical"),
    ("audits", {"markers": ["approved"]}, "accepted", "approved"),
    ("audits", {"markers": ["approved", "blocked"]}, "rejected", "blocked"),
    ("audits", {}, "needs_human_review", "neither"),
    ("contract_analyses", {"failure_markers": ["no proof"], "observer_verdict": "accept"}, "rejected", "no proof"),
    ("contract_analyses", {"failure_markers": [], "observer_verdict": "accept"}, "accepted", "accepts"),
    ("contract_analyses", {"observer_verdict": "reject"}, "rejected", "rejects"),
    ("contract_analyses", {"observer_verdict": "cycle"}, "partially_accepted", "cycle"),
    ("contract_analyses", {}, "needs_human_review", "no verdict"),
    ("auto_apply", {"markers": ["committed"]}, "accepted", "committed"),
    ("auto_apply", {"markers": ["committed", "build_red_reverted"]}, "rejected", "build_red_reverted"),
    ("auto_apply", {"markers": {"committed": True, "warnings_reverted": False}}, "accepted", "committed"),
    ("auto_apply", {}, "needs_human_review", "neither"),
    ("outcomes", {"markers": ["all_events_ok"], "gap_signals": 2}, "accepted", "all_events_ok"),
    ("outcomes", {"gap_signals": 2}, "partially_accepted", "2 gap signals"),
    ("outcomes", {"gap_signals": ["a", "b"]}, "partially_accepted", "gap signals"),
    ("outcomes", {"gap_signals": 0}, "needs_human_review", "neither"),
    ("mode_experiments", {"text": " \n"}, "rejected", "empty text"),
    ("mode_experiments", {"text": "x", "latency_ms": 120001}, "partially_accepted", "120001 ms"),
    ("mode_experiments", {"text": "x", "latency_ms": 120000}, "needs_human_review", "nothing"),
    ("distilled_facts", {}, "needs_human_review", "extraction"),
    ("distilled_procedures", {}, "needs_human_review", "extraction"),
    ("distilled_config_hints", {}, "needs_human_review", "extraction"),
    ("audit_facts", {}, "needs_human_review", "extraction"),
    ("observer_escalations", {}, "needs_human_review", "extraction"),
]


@pytest.mark.parametrize(("stream", "said", "category", "reason"), CASES)
def test_the_rules_of_the_twelve_streams(shipped, stream, said, category, reason):
    """Each stream's verdict, and why."""
    extra = {key: value for key, value in said.items() if key != "text"}
    verdict = shipped({"stream": stream, "text": said.get("text"), "extra": extra}, None)
    assert verdict.category == category
    assert reason in verdict.reasons[0]


def test_every_shipped_rule_is_tried_by_a_case(shipped):
    """Each rule gives at least one of the cases its verdict."""
    with open(EXAMPLE, "rb") as file:
        rules = tomllib.load(file)["rules"]
    reached = set()
    for stream, said, _, _ in CASES:
        extra = {key: value for key, value in said.items() if key != "text"}
        reason = shipped({"stream": stream, "text": said.get("text"), "extra": extra}, None).reasons[0]
        reached |= {
            place
            for place, rule in enumerate(rules)
            if rule.get("stream") in (stream, None)
            and all(part in reason for part in rule["reason"].replace("{number}", "{value}").split("{value}"))
        }
    assert reached == set(range(len(rules)))


@pytest.mark.parametrize("evidence", [{"stream": None}, {"stream": "w", "extra": None}, {"stream": "w", "extra": []}])
def test_other_streams_are_not_scored(shipped, evidence):
    """What the rules say nothing of has no verdict."""
    assert isinstance(shipped(evidence, None), NotScored)


def written(tmp_path, text, name="rules.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


RULE = '[[rules]]\nstream = "s"\ncategory = "accepted"\nreason = "fine"\n'


def test_a_users_own_rules(tmp_path):
    """In TOML or JSON, with every condition there is; the version is theirs, or told from the digest."""
    path = written(
        tmp_path,
        '{"version": "7", "classes": {"c": ["s*"]}, "rules": [{"class": "c", "category": "rejected",'
        ' "reason": "r {number} {what}", "when": [{"field": "a.b", "at_least": 2, "below": 9},'
        ' {"field": "flag", "equals": true}]}]}',
        "rules.json",
    )
    scorer = VerdictMarkers.read(path)
    assert (scorer.version, scorer.digest) == ("7", None)
    evidence = {"stream": "such", "extra": {"a": {"b": "2.5"}, "flag": True}}
    assert scorer(evidence, None).reasons == ("r 2.5 {what}",)
    for wrong in (
        {"a": {"b": 9}, "flag": True},
        {"a": {"b": 3}, "flag": 1},
        {"a": {"b": True}, "flag": True},
        {"a": 1},
    ):
        assert isinstance(scorer({"stream": "such", "extra": wrong}, None), NotScored)
    unversioned = VerdictMarkers.read(written(tmp_path, RULE))
    assert unversioned.version is None
    assert unversioned.digest != VerdictMarkers.read(written(tmp_path, RULE + "# changed\n")).digest


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("rules = 3", "rules", "docs"),
        ("[[rules]\n", "not TOML", "line"),
        (RULE + "[[rules.wen]]\n", "rules[0].wen", "'when'"),
        (RULE + '[[rules.when]]\nfeild = "x"\n', "rules[0].when[0].feild", "'field'"),
        ("zzz = 1\n" + RULE, "there is no key zzz", "rules"),
        (RULE.replace("accepted", "acepted"), "rules[0].category", "docs"),
        (RULE.replace('stream = "s"\n', ""), "neither of stream and class", "one"),
        (RULE + 'class = "c"\n', "both of stream and class", "one"),
        (RULE.replace("stream", "class"), "there is no class", "classes"),
        (RULE.replace("fine", " "), "reason is blank", "why"),
        (RULE + '[[rules.when]]\nfield = "x"\n', "asks nothing of x", "equals"),
        (RULE + '[[rules.when]]\nfield = "x"\nnumber = "("\n', "no regular expression", "mend"),
        (RULE + '[[rules.when]]\nfield = "x"\nnumber = "[0-9]"\n', "has no group", "( )"),
    ],
)
def test_a_configuration_that_is_wrong_says_where(tmp_path, text, message, hint):
    """With the dotted path, and the nearest key or what to do."""
    with pytest.raises(BadConfiguration) as caught:
        VerdictMarkers.read(written(tmp_path, text))
    assert message in caught.value.message
    assert "rules.toml" in caught.value.message
    assert hint in caught.value.hint


def test_a_configuration_that_cannot_be_read_says_so(tmp_path):
    """A missing file, a folder, another encoding, JSON that is none."""
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "latin.toml", written(tmp_path, "{", "bad.json")):
        with pytest.raises(BadConfiguration):
            VerdictMarkers.read(path)


def test_long_values_are_cut_in_reasons(tmp_path):
    """A reason is a line, not a page."""
    rule = RULE.replace("fine", "{value}") + '[[rules.when]]\nfield = "x"\nblank = false\n'
    scorer = VerdictMarkers.read(written(tmp_path, rule))
    assert len(scorer({"stream": "s", "extra": {"x": "y" * 9999}}, None).reasons[0]) == 200
