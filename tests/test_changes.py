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
    shown = entry("C10")
    assert "rule changed 22 and 27 November 2026; first rule: not recorded</span>" in shown
    assert "Changed on 22 November 2026, after results had been seen; the first rule said of the study cpu" in shown
    assert "the rule before said of the study cpu that day: undetermined. Today: not run." in shown
    assert "first rule: undetermined</span>" in entry("C5")
    assert "isonb-changed" not in entry("C19") and "<dt>Rule</dt>" not in entry("C19")


def test_a_claim_that_was_added_says_so():
    assert "claim added 27 November 2026</span>" in entry("C37")


def test_the_rules_of_the_first_day_are_counted(monkeypatch):
    change = changes.Change(("C5", "C6"), datetime.date(2026, 1, 2), "One.", "Two.", "Because.")
    monkeypatch.setattr(changes, "CHANGES", (change,))
    left, added = (sum(bool(claim.added) == is_added for claim in claims.LEDGER) for is_added in (False, True))
    assert verdicts.kept_rules() == (
        f"{left - 2} of {left + added} rules are as they were before the first run. 2 were changed, and {added} claims "
        "were added, after results had been seen."
    )
    rows = {name: {"verdict": "partly"} for name in ("C5", "C6", "C7")} | {"C37": {"verdict": "not run"}}
    study = verdicts.Study("cpu", metrics.tables({}), rows)
    assert verdicts.summary([study])["cpu"].to_dict() == {
        "supported": 0, "partly": 3, "undetermined": 0, "contradicted": 0, "not run": 1, "of these by a later rule": 2,
    }  # fmt: skip
    assert verdicts.in_short(study) == (
        "Of 4 claims, 0 hold at this scale, 3 hold in part and none is contradicted; these networks cannot tell about "
        "0, and 1 have not been tried. 2 of the 3 verdicts rest on rules that were changed or added after results had "
        "been seen."
    )


def test_the_list_shows_both_rules_and_what_the_one_before_said(monkeypatch):
    change = changes.Change(
        ("C5",), datetime.date(2026, 1, 2), "One < two.", "Two.", "Because.", {"C5": "undetermined"}
    )
    monkeypatch.setattr(changes, "CHANGES", (change,))
    shown = verdicts.changed_rules()
    assert "<summary><b>C5</b>, 2 January 2026</summary>" in shown
    assert "<i>Before:</i> One &lt; two.</p><p><i>Now:</i> Two.</p>" in shown
    assert "the study <code>cpu</code> said on that day: C5 undetermined." in shown
