"""A folder of pictures as a source: its layouts, how it is divided, what is remarked and what is refused."""

import os
import warnings

import numpy as np
import pooch
import pytest
from PIL import Image

from isonb.config import RunConfig
from isonb.training import data
from isonb.training.sources import DataError, folder, squares

SPLITS = ("train", "validation", "test")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes pictures of 8 x 8 whose first pixel is their running number, by folder; the cache is the test's own."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("ISONB_DATA", raising=False)
    number = iter(range(256))

    def pictures(**counts):
        root = tmp_path / "pictures"
        for inside, count in counts.items():
            (root / inside).mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                picture(root / inside / f"{next(number):03}.png")
        return root

    return pictures


def picture(path, size=8):
    """A random picture whose first pixel is the number in its name."""
    number = int(path.stem)
    value_HWC = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    value_HWC[0, 0] = number
    Image.fromarray(value_HWC).save(path)


def run(**changes):
    return RunConfig(data="folder", image_size=8, **changes)


def numbers(pictures):
    """The pictures of a split as the numbers in their names."""
    return [int(pixels_NC[0, 0]) for pixels_NC in pictures.pixels_BNC[pictures.index_S]]


def labels(pictures):
    return pictures.labels_B[pictures.index_S].tolist()


def everything(found):
    return sorted(number for name in SPLITS for number in numbers(getattr(found, name)))


def refusal(root, **changes):
    """The message of the refusal, which is one sentence."""
    with pytest.raises(DataError) as caught:
        folder.load(run(**changes), root)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    assert folder.checksums(run(**changes), root) in ({}, None) or "test_fraction" in message
    return message


# Layouts


def test_train_and_test_are_what_they_are_called_and_validation_is_cut_off_the_training_images(make):
    root = make(**{"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 2})
    found = folder.load(run(), root)
    assert found.name == "pictures"
    assert found.classes == ("cat", "dog")
    assert (found.official, found.remarks) == (None, ())
    assert sorted(numbers(found.test)) == [20, 21, 22, 23, 24]
    assert {*numbers(found.train)} | {*numbers(found.validation)} == {*range(20)}
    assert [len(labels(split)) for split in (found.train, found.validation)] == [18, 2]  # a tenth of 20
    for split, is_dog in ((found.train, range(10, 20)), (found.validation, range(10, 20)), (found.test, (23, 24))):
        assert labels(split) == [int(number in is_dog) for number in numbers(split)]
    larger = folder.load(run(validation_fraction=0.5), root)
    assert {*numbers(found.validation)} < {*numbers(larger.validation)}
    assert len(numbers(larger.validation)) == 10
    assert set(found.sha256) == {"train", "test"}


def test_a_tree_is_divided_so_that_every_class_is_on_both_sides(make):
    root = make(cat=20, dog=3, emu=2)
    found = folder.load(run(), root)
    assert found.classes == ("cat", "dog", "emu")
    # A fifth of 20, 3 and 2 is 4, 0.6 and 0.4: 4, 1 and, at least one, 1.
    assert [labels(found.test).count(label) for label in range(3)] == [4, 1, 1]
    assert len(numbers(found.validation)) == 2  # a tenth of the other 19, rounded
    assert {*labels(found.train)} == {0, 1, 2}
    assert everything(found) == list(range(25))
    for name in SPLITS:
        classes = [0 if number < 20 else 1 if number < 23 else 2 for number in numbers(getattr(found, name))]
        assert labels(getattr(found, name)) == classes
    assert set(found.sha256) == {"all"}


@pytest.mark.parametrize(("fraction", "expected"), [(0.001, [1, 1, 1]), (0.5, [10, 2, 1]), (0.999, [19, 2, 1])])
def test_whatever_the_test_fraction_no_class_is_lost(fraction, expected, make):
    found = folder.load(run(test_fraction=fraction), make(cat=20, dog=3, emu=2))
    counts = [labels(found.test).count(label) for label in range(3)]
    # Half of 20 and of 3 is 10 and 1.5: all but one of the three at the most.
    assert all(abs(count - wished) <= 1 for count, wished in zip(counts, expected, strict=True))
    assert counts[2] == 1
    assert all(0 < count < whole for count, whole in zip(counts, (20, 3, 2), strict=True))
    assert everything(found) == list(range(25))


def test_a_larger_test_part_holds_every_smaller_one(make):
    root = make(cat=30, dog=10)
    smaller = set()
    for fraction in (0.1, 0.3, 0.6):
        test = {*numbers(folder.load(run(test_fraction=fraction), root).test)}
        assert smaller < test
        smaller = test


def test_the_division_is_the_same_for_every_seed_and_neither_the_first_nor_the_last_by_name(make):
    root = make(cat=30, dog=30)
    one, other = folder.load(run(seed=0), root), folder.load(run(seed=5), root)
    for name in SPLITS:
        assert numbers(getattr(one, name)) == numbers(getattr(other, name))
    of_cats = sorted(number for number in numbers(one.test) if number < 30)
    assert of_cats not in (list(range(6)), list(range(24, 30)))


def test_every_beginning_of_the_order_has_its_share_of_each_class():
    labels_B = np.repeat([0, 1, 2], [60, 30, 10])
    order_B, place_B = folder.order(labels_B)
    assert sorted(order_B) == list(range(100))
    assert (np.diff(place_B) >= 0).all()
    for length in range(1, 101):
        counts = np.bincount(labels_B[order_B[:length]], minlength=3)
        assert abs(counts - length * np.array([0.6, 0.3, 0.1])).max() <= 2
    assert sorted(place_B[labels_B[order_B] == 2]) == [0, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1]
    assert folder.order(np.array([0, 1]))[1].tolist() == [1, 1]  # single ones stay in training


def test_pictures_below_the_folder_of_a_class_belong_to_it(make):
    found = folder.load(run(), make(**{"cat": 1, "cat/young": 2, "cat/young/small": 2, "dog": 2}))
    assert found.classes == ("cat", "dog")
    assert everything(found) == list(range(7))
    for name in SPLITS:
        assert labels(getattr(found, name)) == [int(number > 4) for number in numbers(getattr(found, name))]


def test_a_class_may_be_called_train(make):
    assert folder.load(run(), make(train=3, plane=3)).classes == ("plane", "train")


def test_data_fractions_are_nested_and_leave_validation_and_test_alone(make):
    root = make(cat=20, dog=20)
    whole = folder.load(run(), root)
    larger = {*numbers(whole.train)}
    for fraction in (0.5, 0.25, 1e-6):
        smaller = folder.load(run(data_fraction=fraction), root)
        assert {*numbers(smaller.train)} < larger
        assert len(numbers(smaller.train)) == max(1, round(fraction * 29))  # 40 less 8 and 3
        assert numbers(smaller.validation) == numbers(whole.validation)
        assert numbers(smaller.test) == numbers(whole.test)
        assert smaller.sha256 == whole.sha256
        larger = {*numbers(smaller.train)}


def test_training_images_stay_in_the_memory_map(make):
    images = data.load(run(), make(cat=20, dog=20))
    mapped = folder.load(run(), make()).train.pixels_BNC
    assert isinstance(mapped, np.memmap)
    assert len(images.train) == 29
    assert images.train.pixels_BNC.untyped_storage().nbytes() == 29 * 8 * 8 * 3  # of a slice, not of a gathered copy
    assert images.train.index_B.tolist() == list(range(11, 40))
    images.train.pixels_BNC.zero_()
    assert data.load(run(), make()).train.pixels_BNC.any()


def test_names_come_from_isonb_data_too_and_are_the_folders_own(make, monkeypatch):
    root = make(cat=2, dog=2)
    monkeypatch.setenv("ISONB_DATA", str(root))
    assert folder.load(run()).name == "pictures"
    monkeypatch.chdir(root)
    monkeypatch.setenv("ISONB_DATA", ".")
    assert folder.load(run()).name == "pictures"
    odd = root / os.fsdecode(b"caf\xe9\nnew")
    odd.mkdir()
    for name in ("cat", "dog"):
        (root / name).rename(odd / name)
    found = folder.load(run(), odd)
    assert found.name == "caf__new"
    with pytest.warns(UserWarning, match="^(All 1 training images|Classes without)"):
        assert data.describe(data.load(run(test_fraction=0.5), odd)).name == found.name


def test_names_of_classes_fit_into_a_record(make):
    odd = os.fsdecode(b"\xffel\nis")
    root = make(**{odd: 3, "dog": 3})
    with pytest.warns(UserWarning, match="Classes without validation images"):
        described = data.describe(data.load(run(test_fraction=0.33), root))
    assert described.classes == ["dog", "\\xffel\\nis"]
    assert described.model_dump_json()


# The cache and the checksums


def test_the_second_load_decodes_nothing(make, monkeypatch):
    root = make(cat=5, dog=5)
    first = folder.load(run(), root)
    monkeypatch.setattr(squares, "read", lambda *_: pytest.fail("a picture was decoded"))
    for second in (folder.load(run(), root), folder.load(run(test_fraction=0.5, validation_fraction=0.4), root)):
        assert everything(second) == everything(first)


@pytest.mark.parametrize("names", [("cat", "dog"), ("train/cat", "train/dog", "test/cat", "test/dog")])
def test_checksums_are_those_that_a_run_records(names, make, monkeypatch):
    root = make(**dict.fromkeys(names, 3))
    before = folder.checksums(run(), root)
    assert before == folder.load(run(), root).sha256 == folder.checksums(run(), root)
    assert folder.checksums(run(image_fit="crop", seed=3), root) == before
    picture(root / names[0] / "200.png")
    assert folder.checksums(run(), root) == folder.load(run(), root).sha256 != before


def test_without_pictures_at_hand_there_is_nothing_to_compare(make, tmp_path):
    assert folder.checksums(run()) == {}
    assert folder.checksums(run(), tmp_path / "nowhere") == {}
    (tmp_path / "empty").mkdir()
    assert folder.checksums(run(), tmp_path / "empty") == {}
    assert folder.checksums(run(), make(**{"train/cat": 2, "train/dog": 2, "test/cat": 2})) == {}  # is refused


# Remarks


def remarks(root, **changes):
    """What a run is warned of, which its record says, too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = data.load(run(**changes), root)
    assert [str(warning.message) for warning in caught] == list(images.remarks)
    assert data.describe(images).remarks == list(images.remarks)
    return list(images.remarks)


def test_what_is_passed_over_is_remarked_with_its_number(make):
    root = make(**{"train/cat": 9, "train/dog": 9, "test/cat": 3, "test/dog": 3, "valid/cat": 1, ".hidden/cat": 1})
    for name in ("train/README", "test/README", "train/.DS_Store", "train/cat/a.txt", "test/dog/b.txt", "labels.csv"):
        (root / name).write_text("not read")
    picture(root / "train" / "200.png")
    assert remarks(root) == [
        "Files that are not JPEG, PNG, WebP, BMP or GIF pictures were skipped: 1 hidden, 2 .txt, 2 README.",
        "Pictures outside the folders of the classes were skipped: 1.",
        "Folders other than train and test were skipped: valid.",
    ]


def test_many_kinds_of_other_files_are_named_in_part(make):
    root = make(cat=3, dog=3)
    for suffix in "abcdefgh":
        (root / f"file.{suffix}").touch()
    assert remarks(root)[0].endswith("were skipped: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e and 3 more.")


def test_enlarged_pictures_are_remarked(make):
    root = make(cat=14, dog=14)
    picture(root / "cat" / "200.png", size=7)
    picture(root / "cat" / "201.png", size=9)
    assert remarks(root) == ["1 of 30 pictures are smaller than 8 x 8 pixels and were enlarged."]
    assert remarks(root, image_fit="crop") == remarks(root)


def test_test_images_that_are_training_images_as_well_are_remarked(make):
    root = make(**{"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})
    with Image.open(root / "train" / "cat" / "000.png") as image:
        image.save(root / "test" / "cat" / "copy.bmp")  # another file of the same pixels
    with Image.open(root / "train" / "dog" / "010.png") as image:
        image.save(root / "test" / "cat" / "mislabelled.png", compress_level=1)
    for changes in ({}, {"image_fit": "crop"}, {"data_fraction": 0.3}):
        assert remarks(root, **changes) == [
            "2 of 8 test images are also among the training images.",
            "Different pictures that are in more than one class: 1.",
        ]


def test_in_a_divided_tree_too_copies_are_remarked(make):
    root = make(cat=0, dog=10)
    for number in range(10):
        Image.new("RGB", (8, 8), "red").save(root / "cat" / f"{number}.png")
    assert remarks(root) == [  # 2 of either class are for the test, and 1 of each for validation
        "6 of 14 training images are copies of others.",
        "7 of 14 training images are of a single colour.",
        "1 of 2 validation images are of a single colour.",
        "1 of 4 test images are copies of others.",
        "2 of 4 test images are of a single colour.",
        "1 of 2 validation images are also among the training images.",
        "2 of 4 test images are also among the training images.",
    ]


# Refusals


def test_without_a_folder_the_message_says_where_to_name_one(make):
    assert refusal(None) == "data='folder' needs a folder of pictures: name it in data_folder or in ISONB_DATA."


def test_a_folder_that_is_none_is_refused(make, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path / "nowhere", file):
        rest = f"'{place}' is not a directory: name the one that holds the pictures."
        assert refusal(place) == f"The data folder {rest}"
        monkeypatch.setenv("ISONB_DATA", str(place))
        assert refusal(None) == f"ISONB_DATA {rest}"


def test_a_folder_without_pictures_is_refused(make, tmp_path):
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    assert f"{tmp_path / 'empty'} holds no JPEG, PNG, WebP, BMP or GIF pictures" in refusal(tmp_path / "empty")
    root = make(**{"train/cat": 2, "test/cat": 0})
    assert f"{root / 'test'} holds no JPEG" in refusal(root)


def test_pictures_without_folders_of_classes_are_refused(make):
    root = make(**{".": 3})
    assert refusal(root) == f"{root} holds pictures but no folders: sort them into one folder per class."
    root = make(train=2, test=2)
    assert f"{root / 'train'} holds pictures but no folders" in refusal(root)


@pytest.mark.parametrize(("there", "missing"), [("train", "test"), ("test", "train")])
def test_train_without_test_is_refused(there, missing, make):
    root = make(**{f"{there}/cat": 2, f"{there}/dog": 2, "val/cat": 2})
    assert refusal(root) == (
        f"{root} has a folder '{there}' but none called '{missing}': add it, or set the data folder to {root / there} "
        "to have that one split."
    )


def test_a_class_that_only_one_part_has_is_refused_by_its_name(make):
    root = make(**{"train/cat": 2, "train/dog": 2, "test/cat": 2})
    assert f"{root} has pictures of dog in train but not in test" in refusal(root)
    make(**{"test/dog": 1, "test/emu": 1, "test/fox": 1})
    assert f"{root} has pictures of emu, fox in test but not in train" in refusal(root)


def test_a_class_of_one_picture_cannot_be_divided(make):
    root = make(cat=3, dog=1, emu=3, fox=1)
    assert f"{root} has only one picture of dog, fox: every class needs at least two" in refusal(root)


def test_one_class_is_not_enough(make):
    root = make(**{"train/cat": 1, "test/cat": 3})
    assert refusal(root) == (
        f"{root} has pictures of one class only, cat: add a folder of another, to be told apart from it."
    )


def test_pictures_are_called_by_their_collection_or_their_folder(make):
    root = make(cat=4, dog=4)
    assert folder.load(run(), root).name == folder.name_of(run(), root) == root.name
    named = run(collection="our birds")
    assert folder.load(named, root).name == folder.name_of(named, root) == "our birds"
    assert folder.name_of(run(), root / "missing") == ""


@pytest.mark.parametrize(("fraction", "number"), [(0.01, 2), (0.99, 22)])
def test_a_share_that_leaves_a_class_without_images_is_remarked(fraction, number, make):
    found = folder.load(run(test_fraction=fraction, validation_fraction=0.1), make(cat=12, dog=12))
    assert len(found.test.index_S) == number
    remark = (
        f"{number} of 24 pictures are for the test, not the share {fraction}: each class needs some on either side."
    )
    assert (remark in found.remarks) == (abs(number / 24 - fraction) > 0.05)


@pytest.mark.parametrize("names", [("Train", "test"), ("train", "TEST"), ("Train", "Test")])
def test_folders_that_are_nearly_called_train_and_test_are_not_taken_for_classes(names, make):
    with pytest.raises(DataError, match=r"rename .* in small letters"):
        folder.load(run(), make(**dict.fromkeys(names, 4)))


def test_a_test_fraction_without_effect_is_refused(make):
    root = make(**{"train/cat": 3, "train/dog": 3, "test/cat": 3, "test/dog": 3})
    assert refusal(root, test_fraction=0.5) == (
        f"test_fraction=0.5 has no effect with {root}, which has a test folder: leave it at 0.2."
    )


def test_a_damaged_picture_is_refused_by_its_path(make):
    root = make(cat=3, dog=3)
    path = root / "dog" / "004.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="is damaged") as caught:
        folder.load(run(), root)
    assert str(caught.value).startswith(str(path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        folder.load(run(), root)


def test_a_folder_that_cannot_be_read_is_refused(make, monkeypatch):
    root = make(cat=3, dog=3)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(root) == f"{root} cannot be read (Permission denied): make it readable or remove it."
