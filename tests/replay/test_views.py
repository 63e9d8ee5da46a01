"""What sightings mean together: folded sections, a budget, a reserved share, the rows in a section."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.replay.sections import Malformed, rows_of
from lake.errors import UsageError
from tests.views import world
from views import connect
from views.connect import needed
from views.policy import Replay

ANY = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


def asked(con, query):
    return con.execute(query).fetchall()


def test_a_later_sighting_moves_when_a_section_was_last_seen(opened, sighted):
    """First and last seen, and the runs that saw it, are folded from all sightings of a section."""
    rows = [
        sighted("a", at=5, training_run="r2"),
        sighted("a", at=1),
        sighted("a", at=9, training_run="r1", document="d"),
        sighted("b", at=3),
    ]
    con = opened(rows, "replay_sections")
    query = "select content, first_seen, last_seen, sightings, training_runs, documents from replay_sections order by 1"
    assert asked(con, query) == [
        ("a", world.at(1), world.at(9), 3, ["r1", "r2"], ["d"]),
        ("b", world.at(3), world.at(3), 1, None, None),
    ]


def test_the_weight_that_was_told_last_counts(opened, sighted):
    """A sighting without a weight changes none; of two told at once the larger counts, in any order."""
    rows = [sighted("a", at=1, weight=3.0), sighted("a", at=2, weight=0.5), sighted("a", at=3), sighted("b")]
    rows += [sighted("c", weight=2.0, document="x"), sighted("c", weight=4.0, document="y")]
    for order in (rows, rows[::-1]):
        con = opened(order, "replay_sections")
        assert asked(con, "select content, weight from replay_sections order by 1") == [("a", 0.5), ("b", 1), ("c", 4)]


def test_a_withdrawn_sighting_did_not_happen(tmp_path, sighted):
    """A retraction takes a sighting, and with its last one the section."""
    rows = [sighted("a", at=1), sighted("a", at=5, source=world.place("x.md"))]
    for files, left in ((["x.md"], [world.at(1)]), ([], [world.at(5)])):
        said = [world.retraction("source", file) for file in files]
        made = world.make(tmp_path / str(len(files)), replay=rows, retractions=said)
        con = connect(made, sql=needed("replay_seen"), threads=1)
        assert [seen for (seen,) in asked(con, "select last_seen from replay_seen")] == left


def evicted(con):
    return {content for (content,) in asked(con, "select content from replay_sections where state = 'evicted'")}


def test_no_more_is_evicted_than_it_takes(opened, sighted):
    """A section that was seen twice is one section of its size, and goes by when it was seen last."""
    # A copy of a section is not subtracted once and dropped twice.
    rows = [sighted("a" * 100, at=1), sighted("a" * 100, at=9), sighted("b" * 100, at=5)]
    assert evicted(opened(rows, "replay_sections", max_bytes=200)) == set()
    assert evicted(opened(rows, "replay_sections", max_bytes=199)) == {"b" * 100}
    assert evicted(opened(rows, "replay_sections", max_bytes=99)) == {"a" * 100, "b" * 100}
    at_once = sorted((sighted(text * 10) for text in "abc"), key=lambda row: row["section_id"])
    assert evicted(opened(at_once, "replay_sections", max_bytes=20)) == {at_once[0]["content"]}


def test_what_is_protected_stays_over_any_budget(opened, sighted):
    """Protected sections are never evicted, and others go in their place; nothing at all is deleted."""
    rows = [sighted(text * 10, at=at) for at, text in enumerate("abc")]
    kept = (rows[0]["section_id"],)
    assert evicted(opened(rows, "replay_sections", max_bytes=20, protected=kept)) == {"b" * 10}
    assert evicted(opened(rows, "replay_sections", max_bytes=0, protected=kept)) == {"b" * 10, "c" * 10}
    con = opened(rows, "replay_sections", max_bytes=0, protected=tuple(row["section_id"] for row in rows))
    assert evicted(con) == set()
    assert evicted(opened(rows, "replay_sections")) == set()


SECTIONS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=14
)


@ANY
@given(SECTIONS, st.integers(0, 40), st.sets(st.sampled_from("abcdefgh")))
def test_eviction_is_what_a_plain_loop_does(opened, sighted, given_sections, budget, protected):
    """Oldest first, ties by id, only as many as needed, protected ones never: for any sections and any budget."""
    rows = [sighted(name * size, at=at) for name, size, at in given_sections]
    last, size = {}, {}
    for row in rows:
        last[row["section_id"]] = max(row["recorded_at"], last.get(row["section_id"], row["recorded_at"]))
        size[row["section_id"]] = row["content_bytes"]
    kept = {row["section_id"] for row in rows if row["content"][0] in protected}
    held, gone = sum(size.values()), set()
    for one in sorted(size, key=lambda one: (last[one], one)):
        if held > budget and one not in kept:
            gone.add(one)
            held -= size[one]
    con = opened(rows, "replay_evicted", max_bytes=budget, protected=tuple(sorted(kept)))
    assert {one for (one,) in asked(con, "select section_id from replay_evicted")} == gone


def test_a_size_that_nobody_told_is_counted(opened, sighted):
    """Bytes are those of UTF-8, told or not."""
    rows = [sighted("añ", content_bytes=None), sighted("日本")]
    con = opened(rows, "replay_sizes")
    assert sorted(size for (size,) in asked(con, "select bytes from replay_sizes")) == [3, 6]


@ANY
@given(st.integers(1, 60), st.sampled_from([0.05, 0.3, 0.001, 0.9]), st.integers(0, 3))
def test_the_reserved_share_has_the_smallest_hashes(opened, sighted, count, share, seed):
    """int(n r + 0.999) sections, one at least, with the smallest sha256(seed, NUL, id) are kept for evaluation."""
    rows = [sighted(f"text {number}") for number in range(count)]
    hashed = sorted(
        (hashlib.sha256(f"{seed}\0{row['section_id']}".encode()).hexdigest(), row["section_id"]) for row in rows
    )
    wanted = max(1, int(count * share + 0.999))
    con = opened(rows, "replay_reserved replay_pool", retention=share, retention_seed=seed)
    reserved = {one for (one,) in asked(con, "select section_id from replay_reserved")}
    assert reserved == {one for _, one in hashed[:wanted]}
    assert not reserved & {one for (one,) in asked(con, "select section_id from replay_pool")}


def test_a_weight_of_nothing_is_never_in_the_pool(opened, sighted):
    """Weight 0 excludes under every scheme; there is no floor that lifts it."""
    rows = [sighted("a", weight=0.0), sighted("b", at=1), sighted("c", weight=-1.0), sighted("d", weight=1e-9)]
    for scheme in ("recency", "uniform"):
        con = opened(rows, "replay_pool replay_sections", scheme=scheme)
        query = "select content from replay_pool join replay_sections using (section_id) order by 1"
        assert asked(con, query) == [("b",), ("d",)]


def test_recency_fades_to_a_hundredth(opened, sighted):
    """A section's weight is divided by one and its age in days, and from 99 days on by a hundred; time does not run."""
    day = 86400
    rows = [sighted(f"{days}", at=-days * day, weight=2.0) for days in (0, 1, 99, 5000)]
    con = opened(rows, "replay_pool replay_sections")
    query = "select content, draw_weight from replay_pool join replay_sections using (section_id)"
    weights = {content: pytest.approx(weight) for content, weight in asked(con, query)}
    assert weights == {"0": 2, "1": 1, "99": 0.02, "5000": 0.02}
    earlier = opened(rows, "replay_pool", now=world.at(-99 * day))
    assert max(weight for (weight,) in asked(earlier, "select draw_weight from replay_pool")) == 2


LINES = st.sampled_from(
    [
        "### Q",
        "### Q !probe",
        "### A !probe",
        "### Q  !probe ",
        "### A",
        " ### Prompt\t",
        "### Chosen",
        "### Rejected",
        "",
        "a",
        " b ",
    ]
)


BODIES = st.tuples(st.sampled_from(["prose", "instruction", "preference"]), st.lists(LINES, min_size=1, max_size=9))


@ANY
@given(st.lists(BODIES, min_size=8, max_size=20))
def test_rows_are_those_of_the_grammar(opened, sighted, bodies):
    """A stored section has the rows that the parser finds in it, and one that the parser refuses has none."""
    sound = [("instruction", ["### Q", "a", "### A", "b", "### Q !probe", "c", "### A", "d"])]
    rows = [sighted("\n".join(lines), kind) for kind, lines in [*sound, *bodies] if "".join(lines).strip()]
    con = opened(rows, "replay_rows")
    found = {row["section_id"]: [] for row in rows}
    query = "select section_id, prose, prompt, response, chosen, rejected from replay_rows order by n"
    for section_id, *texts in asked(con, query):
        found[section_id].append([text for text in texts if text is not None])
    for row in rows:
        try:
            held = rows_of(row["section_type"], row["content"])
        except Malformed:
            held = []
        texts = [
            [turn["content"] for turn in one["messages"]] if "messages" in one else [*one.values()] for one in held
        ]
        assert found[row["section_id"]] == texts


def test_json_and_foreign_line_ends_are_read(opened, sighted):
    """A conversation comes back as it was, and a byte order mark and carriage returns are no part of a row."""
    talk = '{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}],"tools":[1]}'
    rows = [
        sighted(talk, "instruction"),
        sighted('{"prompt":"p\\n### A","chosen":"c","rejected":"r"}', "preference"),
        sighted("\ufeff### Q\r\na\r\n### A\rb", "instruction"),
        sighted('{"messages":[{"role":"assistant","content":" "}]}', "instruction"),
        sighted("{no json", "preference"),
    ]
    con = opened(rows, "replay_rows")
    query = "select prompt, response, messages, tools, chosen from replay_rows order by 1, 2"
    told = '[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]'
    assert asked(con, query) == [
        ("a", "b", None, None, None),
        ("p\n### A", None, None, None, "c"),
        ("u", "a", told, "[1]", None),
    ]


@pytest.mark.parametrize(
    "bad", [{"max_bytes": -1}, {"retention": 1.0}, {"retention": float("nan")}, {"scheme": "best"}]
)
def test_a_policy_that_cannot_be_is_refused(bad):
    """A budget, a share and a scheme are what they can be."""
    with pytest.raises(UsageError) as refusal:
        Replay(**bad)
    assert refusal.value.hint
