"""One sentence for each claim that a person wrote: there for all, and true of the committed records."""

import pytest
from simulated_study import study

from isonb import places
from isonb.evidence import claims, metrics
from isonb.pages import readings


@pytest.fixture(scope="module")
def committed():
    """The project's own records of the study `cpu`, whatever ISONB_RESULTS says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISONB_RESULTS", str(places.PROJECT / "book" / "results"))
        t = claims.read("cpu")
        return t, {row["id"]: row for row in claims.as_rows(claims.judge(t))}


def test_every_claim_has_a_sentence():
    assert list(readings.READINGS) == list(claims.BY_ID)


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.BY_ID)
def test_the_sentence_holds_on_the_committed_records(name, committed):
    """If this fails, the records say something else than the sentence: read them, and rewrite it."""
    t, rows = committed
    reading = readings.of(t, rows[name])
    assert reading.holds, str(reading)


def test_nothing_is_said_of_what_has_not_run():
    t = metrics.tables({})
    rows = claims.as_rows(claims.judge(t))
    said = {row["id"] for row in rows if readings.of(t, row).holds is not None}
    assert said == {"C24", "C27", "C32", "C33", "C34", "C40", "C41"}  # why there is nothing to say


def judged(name, **effects):
    t = study(**effects)
    (row,) = claims.as_rows(claims.judge(t, [claims.BY_ID[name]]))
    return readings.of(t, row)


def losses(**encodings):
    """conv at 3 nats, mixers at 4, and the transformer above (1) or below (-1) the mixer, by encoding."""
    by_block = {"conv": lambda encoding: 3.0, "mixer": lambda encoding: 4.0}
    return lambda **c: (
        by_block.get(c["network"], lambda encoding: 4 + 0.5 * encodings[encoding])(c["encoding"]) + 0.001 * c["seed"]
    )


@pytest.mark.parametrize(
    ("ahead", "holds"),
    [
        ({"continuous": -1, "rff": 1, "pix2vec": -1}, True),
        ({"continuous": 1, "rff": 1, "pix2vec": -1}, False),
        ({"continuous": -1, "rff": -1, "pix2vec": -1}, False),
    ],
)
def test_the_order_of_losses_depends_on_the_encoding(ahead, holds):
    reading = judged("C5", loss=losses(**ahead))
    assert reading.holds is holds
    assert "the lowest loss in all 9 settings" in str(reading)
    assert str(reading).startswith("No longer holds: ") != holds


def test_features_of_mixers_that_beat_a_transformer_are_not_denied():
    better = judged("C6", accuracy=lambda **c: {"conv": 0.7, "mixer": 0.5}.get(c["network"], 0.5))
    assert better.holds is True and "better than the mixer's in 9 of 9 settings" in str(better)
    assert judged("C6", accuracy=lambda **c: {"conv": 0.7, "mixer": 0.5}.get(c["network"], 0.2)).holds is False
