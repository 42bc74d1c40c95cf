"""Linear probes: chance where there is nothing to learn, the right layer, and the same answer by every route."""

from math import sqrt

import numpy as np
import pytest
import torch

from isonb.config import ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.models.objectives import sample_masks
from isonb.training import checkpoint, classifiers, data, decoding, probe

RUN = RunConfig(width=8, image_size=8, depth=2)
QUICK = ProbeConfig(epochs=15)


class MadeLayers(torch.nn.Module):
    """Stands in for a network whose layers are given functions of the pixels."""

    def __init__(self, *layers):
        super().__init__()
        self.config, self.layers, self.parameter = RUN, layers, torch.nn.Parameter(torch.zeros(1))

    def each_layer(self, pixels_BNC, is_masked_BNC):
        return (layer((pixels_BNC.float() - 127.5) / 127.5) for layer in self.layers)


def split_of(pixels_BNC, labels_B, first=0):
    return data.Split(pixels_BNC.to(torch.uint8), labels_B.long(), torch.arange(first, first + len(labels_B)))


def coloured(count, classes=3, seed=0, first=0):
    """Noisy images in which channel k is brighter for class k."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.arange(count) % classes
    pixels_BNC = torch.randint(0, 120, (count, 64, 3), generator=generator)
    pixels_BNC[torch.arange(count), :, labels_B % 3] += 100
    return split_of(pixels_BNC, labels_B, first)


def images_of(train, validation, test, classes=3):
    return data.Images("made", tuple("abcdefghij"[:classes]), 8, train, validation, test, {})


def coloured_images():
    return images_of(coloured(90, seed=1), coloured(30, seed=2, first=90), coloured(60, seed=3))


def shuffled(split, seed):
    order_B = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return data.Split(split.pixels_BNC, split.labels_B[order_B], split.index_B)


def test_what_is_linearly_separable_is_found_and_what_is_constant_is_not():
    network = MadeLayers(torch.zeros_like, lambda x_BNC: x_BNC)
    probed = probe.probe_layers(network, coloured_images(), QUICK)
    constant, informative = probed.record.layers
    assert (informative.train_accuracy, informative.validation_accuracy, informative.test_accuracy) == (1, 1, 1)
    assert constant.test_accuracy == pytest.approx(1 / 3)
    assert (probed.record.best_layer, probed.record.test_accuracy) == (1, 1)
    assert [layer.layer for layer in probed.record.layers] == [0, 1]
    assert probed.test_correct_LB.shape == (2, 60) and probed.test_correct_LB.dtype == bool
    assert probed.test_correct_LB.mean(1).tolist() == [layer.test_accuracy for layer in probed.record.layers]


@pytest.mark.parametrize("block", ["conv", "mixer", "transformer"])
def test_shuffled_labels_leave_every_layer_at_chance(block):
    network = networks.build_network(RunConfig(block=block, encoding="rff", width=8, image_size=8))
    splits = [coloured(240, seed=1), coloured(90, seed=2), coloured(600, seed=3)]
    learned = probe.probe_layers(network, images_of(*splits), QUICK).record
    assert min(layer.test_accuracy for layer in learned.layers) > 0.85
    unlearnable = images_of(*(shuffled(split, seed) for seed, split in enumerate(splits)))
    record = probe.probe_layers(network, unlearnable, QUICK).record
    deviation = sqrt(1 / 3 * 2 / 3 / 600)
    for layer in record.layers:
        assert abs(layer.test_accuracy - 1 / 3) < 4 * deviation


def test_chance_is_the_share_of_the_most_frequent_class():
    test = coloured(60, seed=3)
    few = split_of(test.pixels_BNC[:4], torch.tensor([2, 0, 2, 2]))
    network = MadeLayers(lambda x_BNC: x_BNC)
    assert probe.probe_layers(network, coloured_images(), QUICK).record.chance == pytest.approx(1 / 3)
    assert probe.probe_layers(network, images_of(test, test, few), QUICK).record.chance == 0.75


@pytest.mark.parametrize(("select_on", "best", "accuracy"), [("validation", 0, 0), ("test", 1, 1)])
def test_the_layer_is_chosen_on_one_split_and_reported_on_the_test_split(select_on, best, accuracy):
    labels_B = torch.arange(40) % 2

    def split(red, green):  # +1: bright for class 1; -1: bright for class 0
        bright = torch.stack([127.5 + 100 * sign * (2 * labels_B - 1) for sign in (red, green, 1)], dim=1)
        return split_of(bright[:, None].expand(-1, 64, -1), labels_B)

    images = images_of(split(1, 1), split(1, -1), split(-1, 1), classes=2)
    network = MadeLayers(lambda x_BNC: x_BNC[..., :1], lambda x_BNC: x_BNC[..., 1:2])
    settings = ProbeConfig(feature="raw", epochs=10, select_on=select_on)
    record = probe.probe_layers(network, images, settings).record
    assert [layer.validation_accuracy for layer in record.layers] == [1, 0]
    assert [layer.test_accuracy for layer in record.layers] == [0, 1]
    assert (record.best_layer, record.test_accuracy) == (best, accuracy)
    assert record.protocol.endswith(f"layer chosen on {select_on}")


def test_the_earliest_of_equal_layers_is_chosen():
    network = MadeLayers(torch.zeros_like, lambda x_BNC: x_BNC, lambda x_BNC: 2 * x_BNC)
    assert probe.probe_layers(network, coloured_images(), QUICK).record.best_layer == 1


@pytest.mark.parametrize("settings", [{"epochs": 2}, {"epochs": 2, "inputs": "vote5"}, {"solver": "lbfgs"}])
@pytest.mark.parametrize("training", [True, False])
def test_probing_leaves_the_network_as_it_was(training, settings):
    network = networks.build_network(RUN).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    probe.probe_layers(network, coloured_images(), ProbeConfig(**settings))
    assert network.training is training
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


# Along training


def at_epochs(folder, run, count):
    """Files of the weights of a run at the close of `count` epochs, and the networks that have these weights."""
    then = [networks.build_network(run) for _ in range(count)]
    for epoch, network in enumerate(then, start=1):
        generator = torch.Generator().manual_seed(epoch)
        for parameter in network.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return [checkpoint.keep(folder, run, epoch, network) for epoch, network in enumerate(then, start=1)], then


def measured(probes):
    return {name: value for name, value in dict(probes).items() if name in {"layers", "best_layer", "test_accuracy"}}


def test_every_epoch_is_probed_as_the_finished_network_is(tmp_path):
    run = RUN.model_copy(update={"epochs": 4})
    images = images_of(*(shuffled(coloured(60, seed=seed), seed) for seed in range(3)))
    kept, then = at_epochs(tmp_path, run, 3)
    network = networks.build_network(run).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = probe.probe_layers(network, images, ProbeConfig(epochs=2), kept=kept)
    probed = probe.probe_layers(network, images, ProbeConfig(epochs=2, along=True), kept=kept)
    assert plain.record.along == [] and measured(probed.record) == measured(plain.record)
    assert np.array_equal(probed.test_correct_LB, plain.test_correct_LB)
    assert [row.epoch for row in probed.record.along] == [1, 2, 3, 4]
    alone = [probe.probe_layers(one, images, ProbeConfig(epochs=2)).record for one in then]
    assert [measured(row) for row in probed.record.along] == [measured(one) for one in (*alone, probed.record)]
    assert probed.record.along[-1].seconds == probed.record.seconds  # it is not computed twice
    assert len({row.layers[1].train_accuracy for row in probed.record.along}) > 1
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_a_network_in_double_precision_is_probed_in_it_along_training(tmp_path):
    run = RUN.model_copy(update={"epochs": 2})
    then = networks.build_network(run).double()
    kept = [checkpoint.keep(tmp_path, run, 1, then)]
    record = probe.probe_layers(then, coloured_images(), ProbeConfig(epochs=1, along=True), "float64", kept).record
    assert measured(record.along[0]) == measured(record.along[1]) == measured(record)


# Pixels


def test_pixels_are_read_off_each_layer_beside_the_probes_and_change_none_of_them(tmp_path):
    run = RUN.model_copy(update={"epochs": 2})
    kept, _ = at_epochs(tmp_path, run, 1)
    network, images = networks.build_network(run).eval(), coloured_images()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = probe.probe_layers(network, images, ProbeConfig(epochs=2, along=True, feature="raw"), kept=kept)
    settings = ProbeConfig(epochs=2, along=True, feature="raw", pixels=True)
    probed = probe.probe_layers(network, images, settings, kept=kept)
    pixels = [layer.pixel_accuracy for layer in probed.record.layers]
    assert (
        pixels
        == decoding.pixel_accuracies(network, images, "raw")
        != decoding.pixel_accuracies(network, images, "layernorm")
    )
    layers = [layer.model_copy(update={"pixel_accuracy": None}) for layer in probed.record.layers]
    assert measured(probed.record) | {"layers": layers} == measured(plain.record)
    assert [measured(row) for row in probed.record.along] == [measured(row) for row in plain.record.along]
    assert np.array_equal(probed.test_correct_LB, plain.test_correct_LB)
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("count", [0, 2])
def test_epochs_without_weights_are_refused(count, tmp_path):
    run = RUN.model_copy(update={"epochs": 4})
    kept, _ = at_epochs(tmp_path, run, count)
    with pytest.raises(probe.ProbeError) as refusal:
        probe.probe_layers(networks.build_network(run), coloured_images(), ProbeConfig(along=True), kept=kept)
    assert str(refusal.value) == (
        f"probe_along=True needs the weights of 3 epochs and {count} were kept: train with probe_along=True, too."
    )


# Features


@pytest.mark.parametrize("feature", ["layernorm", "raw"])
@pytest.mark.parametrize("pooling", ["mean", "grid4", "flatten"])
def test_pooling_equals_the_loop(pooling, feature):
    x_BND = torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(0)).double() * 3 + 1
    token = x_BND.numpy()
    if feature == "layernorm":  # each token on its own, without learned scale
        token = (token - token.mean(2, keepdims=True)) / np.sqrt(token.var(2, keepdims=True) + 1e-5)
    expected = []
    for image in token:
        if pooling == "mean":
            expected.append([image[:, d].mean() for d in range(8)])
        elif pooling == "flatten":
            expected.append([image[n, d] for n in range(64) for d in range(8)])
        else:
            cell = image.reshape(4, 2, 4, 2, 8)
            expected.append([cell[i, :, j, :, d].mean() for d in range(8) for i in range(4) for j in range(4)])
    pooled_BF = probe._pool(x_BND, 8, ProbeConfig(pooling=pooling, feature=feature))
    np.testing.assert_allclose(pooled_BF.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("inputs", "views"), [("unmasked", 1), ("masked", 1), ("vote5", 5)])
def test_views_are_the_whole_image_or_its_evaluation_masks(inputs, views, monkeypatch):
    network, split = networks.build_network(RUN), coloured(5, first=20)
    config = ProbeConfig(inputs=inputs, feature="raw")
    monkeypatch.setattr(probe.evaluate, "CHUNK", 2)
    made = probe.extract(network, split, config)
    assert len(made) == views
    for view, x_LBF in enumerate(made):
        is_masked_BNC = None if inputs == "unmasked" else sample_masks(RUN, split.index_B, "evaluation", view)
        with torch.no_grad():
            layers = network.forward_layers(split.pixels_BNC, is_masked_BNC)
        torch.testing.assert_close(x_LBF, torch.stack([x_BND.mean(1) for x_BND in layers]), rtol=1e-4, atol=1e-5)


def test_a_vote_adds_the_probabilities_of_five_masked_views():
    network = networks.build_network(RUN)
    images = images_of(*(shuffled(coloured(60, seed=seed), seed) for seed in range(3)))  # no answer is beyond doubt
    config = ProbeConfig(inputs="vote5", epochs=1, scaling="none")
    probed = probe.probe_layers(network, images, config)
    first_view = probe.extract(network, images.train, config)[0]
    ((weight_LFK, bias_LK),) = classifiers.by_adam(first_view, images.train.labels_B, 3, config, RUN.seed)
    vote_LBK = 0
    for x_LBF in probe.extract(network, images.test, config):
        logits_LBK = torch.einsum("lbf,lfk->lbk", x_LBF, weight_LFK) + bias_LK[:, None]
        vote_LBK = vote_LBK + logits_LBK.exp() / logits_LBK.exp().sum(2, keepdim=True)
    expected_LB = vote_LBK.argmax(2) == images.test.labels_B
    assert np.array_equal(probed.test_correct_LB, expected_LB.numpy())
    assert 0.1 < expected_LB.double().mean() < 0.9


def test_features_that_do_not_fit_are_refused_before_any_are_made():
    class Unread(torch.nn.Module):
        config = RunConfig(depth=6)

        def each_layer(self, *_):
            raise AssertionError("the network was run")

    split = split_of(torch.zeros(1, 1024, 3, dtype=torch.uint8).expand(45_000, -1, -1), torch.zeros(45_000))
    network = Unread()
    network.register_parameter("one", torch.nn.Parameter(torch.zeros(1)))
    needed = 4 * 45_000 * 1024 * 128 / 2**30  # bytes x images x positions x width
    with pytest.raises(probe.ProbeError) as refusal:
        probe.extract(network, split, ProbeConfig(pooling="flatten"))
    assert str(refusal.value) == (
        f"probe_pooling='flatten' would keep {needed:.0f} GiB of features of a layer, more than 8 GiB: "
        "choose 'grid4' or 'mean', or a smaller data_fraction."
    )
    with pytest.raises(AssertionError, match="the network was run"):
        probe.extract(network, split, ProbeConfig(pooling="mean"))


def test_the_protocol_says_what_was_done():
    assert probe.describe(ProbeConfig()) == (
        "mean-pooled whitened layernorm features of unmasked images, Adam 0.01, cosine over 100 epochs, batch 128, "
        "layer chosen on validation"
    )
    other = probe.describe(ProbeConfig(pooling="grid4", feature="raw", inputs="vote5", solver="lbfgs"))
    assert other == (
        "4x4-pooled standardised raw features of vote5 images, L-BFGS to convergence, layer chosen on validation"
    )
