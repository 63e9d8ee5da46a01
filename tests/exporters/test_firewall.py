import pytest

from exporters.export import export
from exporters.faults import FirewallBreach
from exporters.plan import Options
from exporters.relations import OffBalance
from tests.exporters.conftest import run, verdict
from views.connect import dumps, sources

# A view of sft without any firewall: every run that has a verdict.
OPEN = """
select
    'sft-' || run_id as id, prompt as instruction, '' as context, text as response, messages,
    cast(null as varchar) as tools, run_id as source_run_id, task_id, {category} as category, role, model,
    score as quality_score, recorded_at as created_at, source as provenance, event_id, score_event_id
from runs
where category is not null
"""


NO_SFT = """
select *
from quarantine_before
where dataset <> 'sft' or record_type = 'run'
"""


def doctored(lake, **relations):
    """The digest of the installed rules with some relations replaced; `<name>_before` is what they were."""
    rules = dict(sources())
    for name, sql in relations.items():
        rules[f"{name}_before"] = rules[name]
        rules[name] = sql
    return Options(views=lake.put_object(dumps(rules)))


@pytest.fixture
def refused(filled, tmp_path):
    """Export under doctored rules, which must be refused without a trace."""

    def attempt(dataset, error, **relations):
        with pytest.raises(error) as refusal:
            export(filled, dataset, tmp_path / "out", doctored(filled, **relations))
        assert list(tmp_path.iterdir()) == []
        assert "nothing was written" in refusal.value.message
        return refusal.value

    return attempt


def test_a_view_that_lets_rejected_rows_through_is_refused(refused):
    """If the view of sft selects what was rejected, the second layer stops the export and says which row."""
    breach = refused("sft", FirewallBreach, sft=OPEN.format(category="category"))
    assert {row.id for row in breach.rows} >= {"sft-bad-1", "sft-bad-2", "sft-open-1"}
    assert all("is not allowed in sft" in row.why or "empty" in row.why for row in breach.rows)


def test_a_view_that_lies_about_a_verdict_is_refused(refused):
    """If the view calls everything accepted, the pinned scores say otherwise."""
    honest = OPEN.format(category="'accepted'") + "and strip(text) <> ''"
    known = """
        select * from considered_before where dataset <> 'sft'
        union all select 'sft', 'event', event_id from sft
        union all select 'sft', 'run', run_id from missing_runs
    """
    refused_by = refused("sft", FirewallBreach, sft=honest, quarantine=NO_SFT, considered=known)
    assert "no pinned score bears out" in refused_by.message


def test_a_view_that_pairs_the_wrong_way_round_is_refused(refused):
    """A pair whose chosen side no scorer accepted is refused, although its texts are well."""
    swapped = """
        select * replace (
            rejected as chosen, chosen as rejected,
            rejected_run_id as chosen_run_id, chosen_run_id as rejected_run_id
        )
        from preference_before
    """
    assert "no pinned score bears out" in refused("preference", FirewallBreach, preference=swapped).message


def test_a_view_that_repeats_rows_is_refused(refused):
    """Two rows of one id are refused."""
    twice = "select * from rag_before union all select * from rag_before"
    assert "repeat the id" in refused("rag", FirewallBreach, rag=twice).message


def test_a_view_that_drops_rows_is_refused(refused):
    """A row that the view drops in silence, neither exported nor in quarantine, is missed."""
    fewer = "select * from sft_before where id <> (select min(id) from sft_before)"
    assert "1 considered and in neither" in refused("sft", OffBalance, sft=fewer).message


def test_a_quarantine_that_forgets_is_refused(refused):
    """A record that quarantine forgets is missed."""
    fewer = "select * from quarantine_before where reason <> 'unsafe_sft_category'"
    assert "considered and in neither" in refused("sft", OffBalance, quarantine=fewer).message


def test_a_record_on_both_sides_is_refused(refused):
    """A record that is exported and in quarantine at once is found, although the sums could agree."""
    both = """
        select * from quarantine_before
        union all
        select 'sft', 'x', ['x'], 'event', event_id, source_run_id, task_id, event_id, provenance, created_at from sft
    """
    assert "4 in both" in refused("sft", OffBalance, quarantine=both).message


def test_a_row_that_was_never_considered_is_refused(refused):
    """A row from outside of what was considered is found, also where another is missing and the sums agree."""
    other = "select * from considered_before where record_id <> (select min(event_id) from sft)"
    assert "1 never considered" in refused("sft", OffBalance, considered=other).message


def test_a_record_that_is_counted_twice_is_refused(refused):
    """A record that is in quarantine twice is found."""
    twice = "select * from quarantine_before union all select * from quarantine_before"
    assert "counted more than once" in refused("sft", OffBalance, quarantine=twice).message


def test_the_same_rules_pass_undoctored(filled, tmp_path):
    """Replacing a relation by one that gives the same rows changes nothing but the digest."""
    made = export(filled, "sft", tmp_path / "out", doctored(filled, sft="select * from sft_before"))
    assert made.rows == 4


def test_a_later_rejection_closes_the_door(own, tmp_path):
    """A run that a person rejects later leaves every training set, and is accounted for."""
    first = export(own, "sft", tmp_path / "first")
    own.append("scores", [verdict("good-3", "t2", "rejected", scorer="human")], producer="test", sequence=2)
    own.append("evidence", [run("good-3", "t2", "sent again", model="m")], producer="test", sequence=2)
    second = export(own, "sft", tmp_path / "second")
    assert second.rows == first.rows - 1
    assert second.counts.considered == first.counts.considered + 1
    assert second.counts.reasons["duplicate_id"] == 1
