"""What takes the meaning from numbers on some images: what is refused, and what is said of the rest."""

import dataclasses

import numpy as np
import pytest

from isonb.training.sources import DataError, Found, Pictures, doubts

CLASSES = ("cat", "dog", "emu")
LABELS = {"train": [0, 1, 2, 0, 1, 2], "validation": [0, 1, 2], "test": [0, 1, 2]}


def made(**changes):
    """Twelve different pictures of three classes, six to train; `changes` are of labels, pictures by split, or names.

    A picture is its number: equal numbers are equal pixels. 1000 + c is a picture of the single colour c.
    """
    classes, pictures, numbers = changes.pop("classes", CLASSES), {}, iter(range(100))
    for split, labels in LABELS.items():
        labels = changes.pop(f"{split}_labels", labels)
        chosen = changes.pop(split, None) or [next(numbers) for _ in labels]
        pixels_BNC = [
            np.full((64, 3), number - 1000, np.uint8)
            if number >= 1000
            else np.random.default_rng(number).integers(0, 256, (64, 3), np.uint8)
            for number in chosen
        ]
        pixels_BNC = np.array(pixels_BNC, np.uint8).reshape(-1, 64, 3)
        pictures[split] = Pictures(pixels_BNC, np.array(labels, np.uint8), np.arange(len(labels)))
    assert not changes
    return Found("animals", tuple(classes), **pictures, sha256={})


def remarks(**changes):
    found = made(**changes)
    doubts.require_meaning(found)
    return list(doubts.remarks(found))


def test_good_images_are_not_remarked_on():
    assert remarks() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": [1, 2, 3, 1, 2, 1]}, "3 of 6 training images are copies of others."),
        ({"test": [50, 50, 51]}, "1 of 3 test images are copies of others."),
        ({"validation": [50, 50, 50]}, "All 3 validation images are the same picture."),
        ({"train": [7] * 6}, "All 6 training images are the same picture."),
        ({"train": [1000] * 6}, "All 6 training images are the same picture."),
        ({"train": [1000] * 6}, "6 of 6 training images are of a single colour."),
        ({"train": [1001, 1002, 1003, 1004, 1255, 7]}, "5 of 6 training images are of a single colour."),
        ({"test": [1000, 7, 8]}, "1 of 3 test images are of a single colour."),
        ({"test": [0, 1, 50]}, "2 of 3 test images are also among the training images."),
        ({"test": [6, 51, 50]}, "1 of 3 test images are also among the training images."),  # 6 is for validation
        ({"validation": [0, 51, 50]}, "1 of 3 validation images are also among the training images."),
        ({"train": [0, 0, 2, 3, 4, 5]}, "Different pictures that are in more than one class: 1."),
        ({"test": [1, 0, 50]}, "Different pictures that are in more than one class: 2."),
        ({"train_labels": [0, 1, 0, 1, 0, 1]}, "Classes without training images: emu."),
        ({"test_labels": [1, 2, 2]}, "Classes without test images: cat."),
        (
            {"train_labels": [1] * 6},
            "All 6 training images that are read are of one class, 'dog', which is all a probe learns.",
        ),
        ({"validation_labels": [1, 1, 1]}, "Classes without validation images: cat, emu."),
        ({"classes": [*CLASSES, "fox"]}, "Classes without test images: fox."),
        ({"classes": [*CLASSES, *"fghijkl"]}, "Classes without test images: f, g, h, i, j and 2 more."),
    ],
)
def test_what_is_doubtful_is_said(changes, expected):
    assert expected in remarks(**changes)


def test_training_images_for_a_test_are_told_in_one_remark():
    assert remarks(test=[0, 1, 2]) == ["3 of 3 test images are also among the training images."]


def test_a_few_copies_among_many_are_not_remarked_on():
    many = {"train_labels": [number % 3 for number in range(100)]}
    assert remarks(**many, train=[*range(20, 118), 22, 23]) == []  # 2 of 100, each in its class
    assert remarks(**many, train=[*range(20, 117), 21, 22, 23]) == ["3 of 100 training images are copies of others."]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": ("cat", "dog", "cat")}, "has more than one class called 'cat': give each a name of its own."),
        ({"classes": ("a",) * 10}, "has more than one class called 'a'"),
        ({"classes": ("caf\u00e9", "dog", "cafe\u0301")}, "has more than one class called"),
        ({"test_labels": []}, "animals has no test images: add some."),
        ({"train_labels": []}, "animals has no training images: add some."),
        ({"validation_labels": []}, "animals has no validation images: add some."),
        (
            {"train_labels": [1] * 6, "validation_labels": [1] * 3},
            "All training images of animals are of one class, 'dog': add images of at least one more.",
        ),
        ({"test_labels": [2, 2, 2]}, "All test images of animals are of one class, 'emu'"),
        ({"test_labels": [2]}, "All test images of animals are of one class, 'emu'"),
        ({"classes": ("cat",), **{f"{split}_labels": [0, 0] for split in LABELS}}, "of one class, 'cat'"),
    ],
)
def test_images_by_which_nothing_can_be_judged_are_refused(changes, expected):
    with pytest.raises(DataError) as caught:
        doubts.require_meaning(made(**changes))
    assert expected in str(caught.value)
    assert ". " not in str(caught.value)


def test_copies_are_counted_in_the_whole_of_which_a_run_sees_a_share():
    found = made(train=[1, 1, 1, 1, 1, 1], test=[1, 51, 52])
    share = dataclasses.replace(found.train, index_S=np.array([2]), whole_S=np.arange(6))
    assert list(doubts.remarks(dataclasses.replace(found, train=share))) == [
        "All 1 training images that are read are of one class, 'emu', which is all a probe learns.",
        *list(doubts.remarks(found)),
    ]


def test_pictures_are_compared_as_they_were_before_they_were_resized():
    found = made(train=[1, 1, 1, 1, 1, 1])
    apart = dataclasses.replace(found.train, content_B=np.arange(6, dtype=np.uint64))
    assert list(doubts.remarks(dataclasses.replace(found, train=apart))) == []


def test_pictures_that_only_became_alike_by_being_made_small_are_told():
    """Three of six training pictures are one picture at 8x8, which is also that of one for the test."""
    found = made(train=[1, 1, 1, 2, 3, 4], validation=[60, 61, 62], test=[1, 51, 52])
    numbers = iter(range(100))
    parts = {}
    for split in LABELS:
        pictures = getattr(found, split)
        whole_B = np.array([next(numbers) for _ in pictures.labels_B], np.uint64)
        parts[split] = dataclasses.replace(pictures, content_B=whole_B)
    said = list(doubts.remarks(dataclasses.replace(found, **parts)))
    assert said == [
        "At 8x8 pixels, 2 more of 6 training images are copies of others.",
        "At 8x8 pixels, 1 more of 3 test images are also among the training images.",
    ]
    parts["train"] = dataclasses.replace(parts["train"], content_B=np.array([0, 0, 0, 1, 2, 3], np.uint64))
    parts["test"] = dataclasses.replace(parts["test"], content_B=np.array([0, 8, 9], np.uint64))
    said = list(doubts.remarks(dataclasses.replace(found, **parts)))
    assert "2 of 6 training images are copies of others." in said and not [words for words in said if "At 8x8" in words]
