"""Images as tensors: which source a run reads, what the record says of it, and in which order ranks see them."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from isonb import rows
from isonb.config import RunConfig
from isonb.training import data
from isonb.training.sources import DataError, Found, Pictures


def found(pixels_BNC, **details):
    """What a source could have read, eight images of 8 x 8 in train, validation and test."""
    labels_B = np.arange(8, dtype=np.uint8) % 2
    splits = {"train": [0, 2, 3], "validation": [4, 5], "test": [1, 6]}
    pictures = {name: Pictures(pixels_BNC, labels_B, np.array(numbers)) for name, numbers in splits.items()}
    return Found("made up", ("even", "odd"), **pictures, sha256={"file": "00"}, **details)


@pytest.fixture
def pixels_BNC():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 3), np.uint8)


@pytest.fixture
def read(monkeypatch):
    """Loads what it is given, instead of what the row of the source leads to."""

    class Source:
        def load(self, run, folder):
            return self.content

    source = Source()
    monkeypatch.setattr(rows.Source, "load", lambda row: source)

    def load(content):
        source.content = content
        return data.load(RunConfig(image_size=8))

    return load


def test_a_run_reads_the_source_that_it_names(tmp_path):
    assert data.load(RunConfig()).name == "photos"
    for name in ("cifar10", "cifar100", "folder"):
        with pytest.raises(data.DataError, match=str(tmp_path)):
            data.load(RunConfig(data=name), tmp_path)
    assert data.DataError is DataError


def test_a_split_has_the_images_that_are_meant_with_their_labels_and_numbers(read, pixels_BNC):
    images = read(found(pixels_BNC))
    assert (images.name, images.classes, images.size) == ("made up", ("even", "odd"), 8)
    for split, numbers in ((images.train, [0, 2, 3]), (images.validation, [4, 5]), (images.test, [1, 6])):
        assert len(split) == len(numbers)
        assert split.pixels_BNC.dtype == torch.uint8
        assert split.labels_B.dtype == split.index_B.dtype == torch.int64
        assert split.index_B.tolist() == numbers
        assert split.labels_B.tolist() == [number % 2 for number in numbers]
        assert np.array_equal(split.pixels_BNC, pixels_BNC[numbers])


def test_images_in_one_piece_stay_in_their_memory_map_and_others_are_copied(read, pixels_BNC, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels_BNC)
    mapped_BNC = np.load(tmp_path / "pixels.npy", mmap_mode="c")
    images = read(found(mapped_BNC))
    first, end = mapped_BNC.ctypes.data, mapped_BNC.ctypes.data + mapped_BNC.nbytes
    assert images.validation.pixels_BNC.data_ptr() == first + 4 * 64 * 3
    assert not first <= images.train.pixels_BNC.data_ptr() < end
    images.validation.pixels_BNC.zero_()  # may be written to, for itself alone
    assert np.array_equal(np.load(tmp_path / "pixels.npy"), pixels_BNC)


def test_the_record_says_what_was_read_and_remarks_are_warned_of(read, pixels_BNC):
    remarks = ("Something is odd.", "Something else is.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = read(found(pixels_BNC, official=False, remarks=remarks))
    assert [str(warning.message) for warning in caught] == list(remarks)
    assert all(warning.filename == __file__ for warning in caught)  # of who loads them
    assert data.describe(images).model_dump() == {
        "name": "made up",
        "classes": ["even", "odd"],
        "train": 3,
        "validation": 2,
        "test": 2,
        "sha256": {"file": "00"},
        "official": False,
        "remarks": list(remarks),
    }


def test_what_a_run_changes_in_its_images_does_not_reach_the_next_run():
    data.load(RunConfig()).train.pixels_BNC.zero_()
    assert data.load(RunConfig()).train.pixels_BNC.any()


def test_what_is_doubtful_in_the_images_follows_what_their_source_remarked(read, pixels_BNC):
    pixels_BNC[6] = pixels_BNC[0]
    with pytest.warns(UserWarning) as caught:
        images = read(found(pixels_BNC, remarks=("Something is odd.",)))
    assert [str(warning.message) for warning in caught] == list(images.remarks)
    assert images.remarks == ("Something is odd.", "1 of 2 test images are also among the training images.")


def test_images_by_which_nothing_can_be_judged_are_refused(read, pixels_BNC):
    with pytest.raises(DataError, match="one class"):
        read(dataclasses.replace(found(pixels_BNC), test=Pictures(pixels_BNC, np.zeros(8, np.uint8), np.arange(2))))


@pytest.mark.filterwarnings("ignore:(Classes without|All 1) training images")
def test_data_fractions_of_the_photographs_are_nested_and_leave_validation_and_test_alone():
    whole = data.load(RunConfig())
    larger = set(whole.train.index_B.tolist())
    for fraction in (0.5, 0.25, 0.1, 1e-6):
        part = data.load(RunConfig(data_fraction=fraction))
        numbers = part.train.index_B.tolist()
        assert len(numbers) == max(1, round(fraction * len(whole.train)))
        assert set(numbers) < larger
        assert torch.equal(part.validation.pixels_BNC, whole.validation.pixels_BNC)
        assert torch.equal(part.test.pixels_BNC, whole.test.pixels_BNC)
        assert part.sha256 == whole.sha256
        assert torch.equal(part.train.pixels_BNC, whole.train.pixels_BNC[part.train.index_B])
        assert torch.equal(part.train.labels_B, whole.train.labels_B[part.train.index_B])
        larger = set(numbers)


# Order and ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n_images", "batch_size"), [(1, 1), (7, 3), (33, 16), (64, 16), (10, 128)])
def test_ranks_share_every_batch_without_overlap_or_gap(n_images, batch_size, world_size):
    whole = list(data.batches(n_images, batch_size, seed=4, epoch=2))
    by_rank = [
        list(data.batches(n_images, batch_size, seed=4, epoch=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    full, rest = divmod(n_images, batch_size)
    assert [len(batch) for batch in whole] == [batch_size] * full + [rest] * (rest > 0)
    assert data.steps_per_epoch(n_images, batch_size) == len(whole)
    assert torch.equal(torch.cat(whole), data.epoch_order(n_images, seed=4, epoch=2))
    for batch_index_B, *shares in zip(whole, *by_rank, strict=True):
        assert torch.equal(torch.cat(shares), batch_index_B)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rank_slices_by_hand():
    seven, two = torch.arange(7), torch.arange(2)
    assert [data.rank_slice(seven, rank, 3).tolist() for rank in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [data.rank_slice(two, rank, 5).tolist() for rank in range(5)] == [[], [], [0], [], [1]]


def test_the_order_is_a_permutation_of_its_own_for_every_epoch_and_seed():
    orders = [data.epoch_order(100, seed=seed, epoch=epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert data.epoch_order(100, seed=1, epoch=2).tolist() == orders[5]
