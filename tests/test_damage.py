"""A results folder that was damaged in any way is read as far as it goes, and what is damaged is named."""

import mutations
import pytest
from damaged_study import survey

COUNT = mutations.COUNT // 30  # each is looked at with everything that reads a study


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of numbers that are possible and strange
def test_a_damaged_file_reads_as_before_or_is_named_and_the_rest_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    named = 0
    for damage, must_tell, before, after in survey(tmp_path, COUNT):
        folder_and_name = f"results/smoke/{damage.split()[-1].rsplit('.', 1)[0]}"
        faults = [text for text in after if text.startswith(folder_and_name)]  # of `metrics.write_table`
        assert all(len(fault.splitlines()) == 1 for fault in faults), damage
        assert faults or after == before or not must_tell, damage
        named += bool(faults)
    assert named
    mutations.tally("any file among the results", COUNT, named)
