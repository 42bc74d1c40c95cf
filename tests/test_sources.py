"""What the sources of images share: parts of a whole that never change, and where they look for files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isonb import config, rows
from isonb.config import RunConfig
from isonb.training import data, sources


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


# Some classes of a source


def run(**changes):
    return RunConfig(data="cifar10", **changes)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty training and ten test images of CIFAR-10's ten classes; image i is of class i modulo ten."""
    monkeypatch.delenv("ISONB_DATA", raising=False)
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    for name, count in (("data_batch_1.bin", 40), ("test_batch.bin", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)
        (place / name).write_bytes(np.column_stack([np.arange(count, dtype=np.uint8) % 10, pixels]).tobytes())
    return tmp_path


def test_some_classes_are_numbered_anew_and_keep_their_images_and_the_numbers_of_these(folder):
    whole, part = sources.load(run(), folder), sources.load(run(classes="3,5-9"), folder)
    assert part.name == "cifar10, classes 3,5-9"
    assert part.classes == ("cat", "dog", "frog", "horse", "ship", "truck")
    assert part.sha256 == whole.sha256
    for name in ("train", "validation", "test"):
        one, other = getattr(part, name), getattr(whole, name)
        kept = [number for number in other.index_S if number % 10 in (3, 5, 6, 7, 8, 9)]
        assert one.index_S.tolist() == kept
        new = {3: 0, 5: 1, 6: 2, 7: 3, 8: 4, 9: 5}
        assert one.labels_B[one.index_S].tolist() == [new[number % 10] for number in kept]
        assert np.array_equal(one.pixels_BNC, other.pixels_BNC)


def test_the_images_of_two_choices_without_a_common_class_are_all_images_once(folder):
    whole, *halves = (sources.load(run(classes=classes), folder) for classes in ("", "0-4", "5-9"))
    for name in ("train", "validation", "test"):
        numbers = np.concatenate([getattr(half, name).index_S for half in halves])
        assert sorted(numbers) == sorted(getattr(whole, name).index_S)


def test_a_class_that_is_not_there_is_refused(tmp_path, folder):
    for name, count in (("a", 2), ("b", 2), ("c", 2)):
        for number in range(count):
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    with pytest.raises(
        sources.DataError, match=r"pictures, classes 1-3 has the classes 0 to 2 only: name some of these"
    ):
        sources.load(RunConfig(data="folder", classes="1-3"), tmp_path / "pictures")


def test_each_source_is_read_from_its_own_folder_where_a_setting_names_one_for_each(folder, monkeypatch):
    named = Path(f"stl10=/nowhere,cifar10={folder}")
    assert len(sources.load(run(), named).train.index_S) == 36
    assert sources.checksums(run(), named) == sources.checksums(run(), folder) != {}
    assert sources.name_of(run(classes="0-4"), named) == "cifar10, classes 0-4"
    monkeypatch.setenv("ISONB_DATA", str(folder))  # for those that are not named
    assert len(sources.load(run(), Path("stl10=/nowhere")).train.index_S) == 36
    with pytest.raises(sources.DataError, match=r"The data folder '/nowhere' is not a directory"):
        sources.load(RunConfig(data="stl10"), named)


@pytest.mark.filterwarnings("ignore:Classes without validation images")
def test_a_cell_loads_each_set_of_images_once_and_gives_every_part_its_own(folder, monkeypatch):
    loaded, load = [], sources.load
    monkeypatch.setattr(sources, "load", lambda run, folder: loaded.append(run.classes) or load(run, folder))
    tuned = {"finetune_epochs": 1, "finetune_classes": "5-9"}
    pretraining, probe, finetune = data.load_all(config.cpu(classes="0-4", probe_classes="5-9", **tuned), folder)
    assert loaded == ["0-4", "5-9"]
    assert pretraining.name == "cifar10, classes 0-4"
    assert probe is finetune
    assert probe.name == "cifar10, classes 5-9"
    plain = data.load_all(config.cpu(), folder)
    assert plain.pretraining is plain.probe is plain.finetune
