"""What runs are called in words: nobody has to read a setting's name, and no two runs of a study share a title."""

import pytest

from isonb import config, studies
from isonb.evidence import titles, words


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"depth": 3}, "Convolution, continuous, size 3, seed 0"),
        ({"depth": 3, "learning_rate": 0.001}, "Convolution, continuous, size 3, learning rate 0.001, seed 0"),
        (
            {"block": "transformer", "heads": 4, "encoding": "rff", "positions": "none", "seed": 2},
            "Transformer (4 heads), random Fourier, size 1, no positions, seed 2",
        ),
        (
            {"block": "mixer", "data_fraction": 0.25, "epochs": 24, "warmup_epochs": 4.0},
            "Mixer, continuous, size 1, 25% of the training images, 24 epochs, 4 epochs of warm-up, seed 0",
        ),
        (
            {"block": "transformer", "heads": 2, "data": "cifar100", "head_norm": False, "probe_pooling": "grid4"},
            "Transformer (2 heads), continuous, size 1, CIFAR-100, without head norm, probe pooling grid4, "
            "probe scaling standardise, seed 0",
        ),
        ({"data": "folder"}, "Convolution, continuous, size 1, a folder of pictures, seed 0"),
        ({"data": "folder", "collection": "b"}, "Convolution, continuous, size 1, a folder of pictures, b, seed 0"),
        ({"probe_along": True, "finetune_epochs": 3}, "Convolution, continuous, size 1, seed 0"),
    ],
)  # fmt: skip
def test_a_title_names_what_differs_from_the_studys_grid(settings, title):

    assert titles.title(config.cpu(**settings)) == title


@pytest.mark.parametrize("study", config.STUDIES)
def test_no_two_runs_of_a_study_share_a_title(study):
    cells = studies.cells(study)
    assert len({titles.title(cell) for cell in cells}) == len({cell.run.run_id for cell in cells})


def test_every_choice_of_a_setting_has_its_own_words():
    for name, field in config.RunConfig.model_fields.items():
        choices = getattr(field.annotation, "__args__", (True, False) if field.annotation is bool else (1, 2.5))
        assert len({words.of_setting(name, value) for value in choices}) == len(choices), name
        assert not [value for value in choices if "_" in words.of_setting(name, value)], name
