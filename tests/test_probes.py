"""The probes of a record: two poolings, with and without a penalty, of a network and of its untrained twin."""

import numpy as np
import pytest
import torch
from tiny_runs import made_images, pretrain, tiny_run

from isonb.config import ProbeConfig
from isonb.models import network as networks
from isonb.training import probe, probes, room

QUICK = ProbeConfig(epochs=3)
IMAGES = made_images(train=40, validation=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return pretrain(tiny_run(depth=2), tmp_path_factory.mktemp("run"), precision="float32").network


def accuracies(of):
    return [(layer.train_accuracy, layer.validation_accuracy, layer.test_accuracy) for layer in of.layers]


def test_each_protocol_is_what_probing_by_it_alone_gives(trained):
    made = probes.of_network(trained, IMAGES, QUICK)
    grid = ProbeConfig(epochs=3, pooling="grid4")
    twin = networks.build_network(trained.config)
    for network, own, other in (
        (trained, made.record, made.others[0].trained),
        (twin, made.record.untrained, made.others[0].untrained),
    ):
        assert accuracies(own) == accuracies(probe.probe_layers(network, IMAGES, QUICK).record)
        assert accuracies(other) == accuracies(probe.probe_layers(network, IMAGES, grid).record)
    assert accuracies(made.record) != accuracies(made.record.untrained)
    assert [other.name for other in made.others] == ["grid4", "l2", "grid4 l2"]
    assert made.others[0].protocol == probe.describe(grid)
    assert made.others[1].protocol == f"{probe.describe(QUICK)}, L2 penalty of each layer chosen on validation"


def test_the_arrays_say_which_test_images_each_layer_gets_right(trained):
    made = probes.of_network(trained, IMAGES, QUICK)
    parts = {
        "test_correct_LB": made.record,
        "untrained_correct_LB": made.record.untrained,
        "grid4_correct_LB": made.others[0].trained,
        "grid4_untrained_correct_LB": made.others[0].untrained,
    }
    assert set(made.arrays) == set(parts)
    for name, part in parts.items():
        assert made.arrays[name].shape == (3, len(IMAGES.test))
        assert made.arrays[name].mean(1).tolist() == [layer.test_accuracy for layer in part.layers]


def test_the_penalty_of_each_layer_is_the_best_on_validation_and_the_strongest_of_equals(trained):
    _, penalised = probe.judge(trained, IMAGES, [QUICK], "float32", (0.01, 1.0))
    alone = {penalty: probe.judge(trained, IMAGES, [QUICK], "float32", (penalty,))[1].probes for penalty in (0.01, 1.0)}
    plain = probe.probe_layers(trained, IMAGES, QUICK).record
    for place, penalty in enumerate(penalised.probes.penalties):
        best = max(
            plain.layers[place].validation_accuracy, *(p.layers[place].validation_accuracy for p in alone.values())
        )
        assert penalised.probes.layers[place].validation_accuracy == best
        assert penalty in (0.0, 0.01, 1.0)

    def correct(*right_on_validation):
        return [{"validation": torch.tensor([[True] * right + [False] * (3 - right)])} for right in right_on_validation]

    assert probe._most_accurate(correct(2, 1, 2)) == [2]
    assert probe._most_accurate(correct(2, 1, 1)) == [0]


def test_the_twin_is_the_network_as_it_was_built_and_the_finished_one_stays_as_it_is(trained):
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    twin = probes.untrained(trained.double())
    for name, tensor in networks.build_network(trained.config).state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor.to(twin.state_dict()[name].dtype))
    assert not twin.training
    trained.float()
    probes.of_network(trained, IMAGES, QUICK)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_grid_that_does_not_fit_into_memory_is_left_out(trained, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", probe.feature_bytes(trained.config, QUICK, 40))
    made = probes.of_network(trained, IMAGES, QUICK)
    assert [other.name for other in made.others] == ["l2"]
    assert set(made.arrays) == {"test_correct_LB", "untrained_correct_LB"}


@pytest.mark.parametrize(
    ("settings", "pooling", "scaling"),
    [
        ({}, "grid4", "standardise"),
        ({"scaling": "none"}, "grid4", "standardise"),
        ({"pooling": "grid4"}, "mean", "whiten"),
        ({"pooling": "flatten", "feature": "raw", "inputs": "masked"}, "mean", "whiten"),
    ],
)
def test_the_second_protocol_differs_in_its_pooling(settings, pooling, scaling):
    config = ProbeConfig(**settings, along=True)
    own, other = probes.protocols_of(config, tiny_run(), IMAGES).values()
    assert own == config
    assert other == ProbeConfig(pooling=pooling, scaling=scaling, feature=config.feature, inputs=config.inputs)


def test_features_are_extracted_together_as_alone(trained):
    configs = [ProbeConfig(), ProbeConfig(pooling="grid4"), ProbeConfig(pooling="flatten")]
    together = probe.extract_each(trained, IMAGES.test, configs, "float32")
    for config, (view_LBF,) in zip(configs, together, strict=True):
        (alone_LBF,) = probe.extract(trained, IMAGES.test, config)
        np.testing.assert_array_equal(view_LBF.numpy(), alone_LBF.numpy())
