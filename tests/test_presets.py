"""Presets: what they stand for, the published numbers of parameters, and that a network has one name."""

import pytest
import torch

from isonb import config, presets
from isonb.config import ConfigError
from isonb.models import network as networks
from isonb.models.blocks import multiply_accumulates

MILLIONS = {"image-gpt-s": 76, "image-gpt-m": 455, "image-gpt-l": 1362}  # of parameters, by Chen et al. (2020)


@pytest.mark.parametrize("name", MILLIONS)
def test_the_published_sizes_have_the_published_numbers_of_parameters(name):
    run = config.paper(preset=name, objective="autoregressive").run
    with torch.device("meta"):
        parameters = networks.parameters(networks.IsotropicNetwork(run))
    n, d = 1024, run.width
    by_hand = run.depth * (12 * d * d + 11 * d) + (513 + n + 512 + 1) * d
    assert parameters == by_hand and abs(parameters / 1e6 - MILLIONS[name]) < 1
    assert multiply_accumulates(run) == 12 * n * d * d + 2 * n * n * d


def test_a_preset_is_the_settings_that_it_stands_for_and_what_is_given_beside_it():
    spelled = config.cpu(preset="image-gpt-xs", objective="autoregressive", seed=2)
    written = config.cpu(**presets.PRESETS["image-gpt-xs"], objective="autoregressive", seed=2)
    assert spelled == written and spelled.run.run_id == written.run.run_id
    assert config.from_parameters({"study": "cpu", "preset": "image-gpt-xs", "depth": 3})[0].run.depth == 3
    assert config.cpu(preset=None) == config.cpu()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"preset": "gpt"},
            "preset='gpt' is not allowed: choose image-gpt-xs, image-gpt-s, image-gpt-m, image-gpt-l.",
        ),
        (
            {"preset": "image-gpt-s", "depth": 3},
            "preset='image-gpt-s' stands for depth=24 and depth=3 is given: leave out preset, and give the settings "
            "that you mean, or leave out depth.",
        ),
        (
            {"preset": "image-gpt-s", "mask_unit": "subpixel"},
            "mask_unit='subpixel' is not allowed with a palette, whose colours are whole pixels: choose 'pixel'.",
        ),
    ],
)
def test_an_unknown_preset_and_a_setting_that_says_otherwise_are_refused(settings, sentence):
    with pytest.raises(ConfigError) as refusal:
        config.cpu(**settings)
    assert str(refusal.value) == sentence
    with pytest.raises(ConfigError, match="is not allowed: choose"):
        config.cpu(preset=3)
