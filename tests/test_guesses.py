"""Guesses without a network are computed once for a set of images and its masks."""

import dataclasses

import numpy as np
import pytest
import torch

from isonb.config import RunConfig
from isonb.training import evaluate, guesses
from isonb.training.data import Images, Split

RUN = RunConfig(image_size=8, width=8, evaluation_masks=2)
PALETTE = np.arange(512 * 3).reshape(512, 3).astype(np.uint8)


def split(images, seed):
    pixels_BNC = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (images, 64, 3), dtype=np.uint8))
    return Split(pixels_BNC, torch.zeros(images, dtype=torch.int64), torch.arange(images))


IMAGES = Images("made", ("a", "b"), 8, split(6, 0), split(3, 1), split(3, 2), {"made": "0" * 64})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    return tmp_path


def refuse(*_):
    raise AssertionError("computed again")


def test_what_has_been_computed_is_read(monkeypatch):
    first = guesses.of(RUN, IMAGES)
    assert first == evaluate.baselines(RUN, IMAGES)
    monkeypatch.setattr(evaluate, "baselines", refuse)
    assert guesses.of(RUN, IMAGES) == first
    assert guesses.of(RUN.model_copy(update={"depth": 3, "encoding": "rff", "width": 16}), IMAGES) == first


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"mask_rate": 0.25}, {"mask_unit": "subpixel"}, {"evaluation_masks": 3}, {"objective": "mse"},
        {"objective": "autoregressive"}, {"target": "palette"},
    ],
)  # fmt: skip
def test_other_masks_and_losses_have_guesses_of_their_own(change):
    palette_KC = PALETTE if "target" in change else None
    other = RUN.model_copy(update=change)
    guesses.of(RUN, IMAGES)
    assert guesses.of(other, IMAGES, palette_KC) == evaluate.baselines(other, IMAGES, palette_KC)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_other_images_have_guesses_of_their_own(part):
    guesses.of(RUN, IMAGES)
    darker = getattr(IMAGES, part).pixels_BNC // 2
    numbered = getattr(IMAGES, part).index_B + 1  # which masks they are given
    for change in ({"pixels_BNC": darker}, {"index_B": numbered}):
        other = dataclasses.replace(IMAGES, **{part: dataclasses.replace(getattr(IMAGES, part), **change)})
        assert guesses.of(RUN, other) == evaluate.baselines(RUN, other)


def test_another_palette_has_guesses_of_its_own():
    run = RUN.model_copy(update={"target": "palette"})
    for palette_KC in (PALETTE, 255 - PALETTE):
        assert guesses.of(run, IMAGES, palette_KC) == evaluate.baselines(run, IMAGES, palette_KC)


@pytest.mark.parametrize("content", ["", "null", "[]", '{"uniform": -1}', "{" * 3000, '{"uniform": "x"}', " " * 10_000])
def test_a_damaged_file_is_computed_again(content):
    first = guesses.of(RUN, IMAGES)
    path = guesses.kept(RUN, IMAGES)
    path.write_text(content)
    assert guesses.of(RUN, IMAGES) == first
    assert path.read_text() == first.model_dump_json()


def test_a_folder_that_cannot_be_written_is_no_obstacle(folder):
    (folder / "guesses").write_text("")
    assert guesses.of(RUN, IMAGES) == evaluate.baselines(RUN, IMAGES)
