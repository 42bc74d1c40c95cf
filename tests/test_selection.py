"""A number leads to the runs that it comes from, and to no others."""

from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from made_records import made_record
from simulated_study import study

from isonb import config
from isonb.evidence import metrics, selection

NAMES = {"study": "study", "images": "data_id", "changed": "arm", "size": "depth", "run": "run_id"}


def shown(address, runs):
    """The run_ids that the page of all runs would show, as its script chooses them."""
    page, wanted = urlsplit(address).path, parse_qs(urlsplit(address).query, keep_blank_values=True)
    assert page == "cells.html"
    texts = runs.assign(heads=runs["heads"].where(runs["block"] == "transformer", "")).astype(str)
    is_shown = pd.Series(True, index=runs.index)
    for name, values in wanted.items():
        is_shown &= texts[NAMES.get(name, name)].isin(values)
    return set(runs.loc[is_shown, "run_id"])


@pytest.fixture(scope="module")
def runs():
    """Four networks with two arms; the last seed of the largest size has yet to run."""
    t = study(
        networks=("conv", "mixer", "transformer-1", "transformer-4"), depths=(1, 6), arms=("main", "positions=none")
    )
    return t.runs[(t.runs["depth"] == 1) | (t.runs["seed"] < 2)].reset_index(drop=True)


@pytest.mark.parametrize(
    "chosen",
    [
        "network == 'conv' and encoding == 'rff' and depth == 1 and arm == 'main'",
        "network == 'transformer-4' and seed == 1",
        "arm == 'main'",
        "network in ('conv', 'transformer-1') and depth == 6",
        "block == 'transformer' and (seed == 0 or depth == 6)",
        "run_id == run_id",
    ],
)
@pytest.mark.parametrize("among", [True, False])
def test_exactly_the_runs_behind_a_number_are_shown(runs, chosen, among):
    behind = runs.query(chosen)
    address = selection.of(behind, runs if among else None)
    assert shown(address, runs) == set(behind["run_id"])


def test_only_settings_that_tell_runs_apart_are_named(runs):
    setting = runs.query("network == 'conv' and encoding == 'rff' and depth == 1 and arm == 'main'")
    assert selection.of(setting, runs) == (
        "cells.html?study=cpu&images=same&changed=main&block=conv&encoding=rff&size=1"
    )
    pair = runs.query("run_id in ('conv-rff-1-0-main', 'mixer-pix2vec-1-1-main')")
    assert selection.of(pair, runs) == "cells.html?study=cpu&run=conv-rff-1-0-main&run=mixer-pix2vec-1-1-main"


def test_runs_on_other_images_are_not_shown(runs):
    others = runs.query("arm == 'main'").assign(data_id="other", run_id="other-" + runs["run_id"])
    both = pd.concat([runs, others])
    assert shown(selection.of(runs.query("depth == 1"), runs), both) == set(runs.query("depth == 1")["run_id"])


def test_records_lead_to_themselves():
    records = [made_record(config.cpu(block="transformer", seed=seed, positions="none")) for seed in (0, 1)]
    table = metrics.tables({record.run_id: record for record in records}).runs
    address = selection.of(selection.frame(records))
    assert "changed=positions%3Dnone&block=transformer&heads=1&encoding=continuous&size=1&seed=0&seed=1" in address
    assert shown(address, table) == {record.run_id for record in records}


def test_a_number_without_runs_leads_nowhere(runs):
    with pytest.raises(ValueError, match="No run is selected"):
        selection.of(runs[:0], runs)
