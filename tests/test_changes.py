"""The list of changed rules: complete in its parts, about claims that exist, marked wherever a verdict is shown."""

import datetime

import pytest

from isonb.evidence import claims, metrics
from isonb.evidence.ledger import changes
from isonb.evidence.ledger.finding import Verdict
from isonb.pages import verdicts

KNOWN = set(Verdict)


@pytest.mark.parametrize("change", changes.CHANGES, ids=lambda change: "-".join(change.claims) or "all")
def test_every_change_says_what_was_what_is_and_why(change):
    assert set(change.claims) <= set(claims.BY_ID)
    assert isinstance(change.on, datetime.date)
    for text in (change.was, change.now, change.why):
        assert text[0].isupper() and text.endswith(".")
    assert set(change.verdicts) <= set(change.claims) and set(change.verdicts.values()) <= KNOWN


def test_the_changes_of_a_claim_are_its_own_and_in_order():
    first, second, *_ = changes.of("C24")
    assert first.on < second.on
    assert changes.of("C19") == ()


def entry(name):
    rows = {row["id"]: row for row in claims.as_rows(claims.judge(metrics.tables({})))}
    return verdicts.ledger([verdicts.Study("cpu", metrics.tables({}), rows)], name)


def test_a_verdict_says_that_its_rule_was_changed():
    assert "Changed on 2026-11-22" in entry("C10")
    assert "<dt>Rule</dt>" not in entry("C19")


def test_a_claim_that_was_added_says_so():
    assert "Added on 2026-11-27, after results had been seen" in entry("C37")


def test_the_list_shows_both_rules_and_what_the_one_before_said(monkeypatch):
    change = changes.Change(
        ("C5",), datetime.date(2026, 1, 2), "One < two.", "Two.", "Because.", {"C5": "undetermined"}
    )
    monkeypatch.setattr(changes, "CHANGES", (change,))
    shown = verdicts.changed_rules()
    assert "<summary><b>C5</b>, 2026-01-02</summary>" in shown
    assert "<i>Before:</i> One &lt; two.</p><p><i>Now:</i> Two.</p>" in shown
    assert "the study <code>cpu</code> said on that day: C5 undetermined." in shown
