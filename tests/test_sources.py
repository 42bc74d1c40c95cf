"""What the sources of images share: parts of a whole that never change, and where they look for files."""

from pathlib import Path

import numpy as np
import pytest

from isonb import rows
from isonb.training import sources


def test_a_smaller_share_lies_inside_every_larger_one_and_is_in_order():
    index_S = np.arange(0, 300, 3)
    larger = set(index_S.tolist())
    assert sources.share(index_S, 1.0).tolist() == index_S.tolist()
    for fraction, count in ((0.6, 60), (0.25, 25), (0.021, 2), (1e-6, 1)):
        smaller = sources.share(index_S, fraction).tolist()
        assert smaller == sorted(smaller)
        assert len(smaller) == count
        assert set(smaller) < larger
        larger = set(smaller)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"), [(10, 0.3, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.1, 1), (2, 0.9, 1)]
)
def test_a_part_is_at_least_one_image_and_never_all(count, fraction, expected):
    assert sources.part(count, fraction) == expected


def test_a_named_folder_comes_before_isonb_data(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("ISONB_DATA", "~/pictures")
    assert sources.at_hand(None) == ("ISONB_DATA", Path("/home/someone/pictures"))
    assert sources.at_hand(Path("~/others")) == ("The data folder", Path("/home/someone/others"))
    monkeypatch.delenv("ISONB_DATA")
    assert sources.at_hand(None) is None


@pytest.mark.parametrize("row", rows.SOURCES.values(), ids=lambda row: row.name)
def test_every_row_leads_to_a_source(row):
    source = row.load()
    assert callable(source.load)
    assert callable(source.checksums)
