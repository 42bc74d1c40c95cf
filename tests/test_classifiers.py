"""Classifiers of all layers at once: the same answer by every route, with and without a penalty."""

import numpy as np
import pytest
import torch

from isonb.config import ProbeConfig
from isonb.training import classifiers


def clouds(images, seed, layers=3, classes=3, spread=1.0):
    """Overlapping Gaussian clouds, further apart in later layers. x_LBF, labels."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.arange(images) % classes
    centre_LKF = torch.randn(layers, classes, 8, generator=torch.Generator().manual_seed(7))
    centre_LKF *= torch.linspace(0.3, 1.0, layers)[:, None, None]
    return centre_LKF[:, labels_B] + spread * torch.randn(layers, images, 8, generator=generator), labels_B


def test_layers_that_are_fitted_together_are_fitted_as_if_alone():
    x_LBF, labels_B = clouds(200, seed=0)
    config = ProbeConfig(epochs=5, batch_size=32)
    ((weight_LFK, bias_LK),) = classifiers.by_adam(x_LBF, labels_B, 3, config, seed=0)
    for layer in range(3):
        (alone,) = classifiers.by_adam(x_LBF[layer : layer + 1], labels_B, 3, config, seed=0)
        torch.testing.assert_close(alone[0][0], weight_LFK[layer], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(alone[1][0], bias_LK[layer], rtol=1e-3, atol=1e-5)
    ((other, _),) = classifiers.by_adam(x_LBF, labels_B, 3, config, seed=1)
    assert not torch.allclose(other, weight_LFK, rtol=1e-3, atol=1e-5)  # the order of the images counts


def test_one_adam_step_by_hand():
    # From zero weights the logits are equal, Adam's first step is lr x sign(gradient), and the cosine starts at 1.
    x_LBF, labels_B = torch.tensor([[[1.0], [3.0]]]), torch.tensor([0, 0])
    ((weight_LFK, bias_LK),) = classifiers.by_adam(
        x_LBF, labels_B, 2, ProbeConfig(epochs=1, learning_rate=0.25), seed=0
    )
    assert weight_LFK.flatten().tolist() == pytest.approx([0.25, -0.25], rel=1e-5)
    assert bias_LK.flatten().tolist() == pytest.approx([0.25, -0.25], rel=1e-5)


def test_adam_and_lbfgs_agree_within_a_point():
    x_LBF, labels_B = clouds(900, seed=0)
    held_out_LBF, held_out_B = clouds(6000, seed=1)
    accuracy = []
    for fit in (classifiers.by_adam, classifiers.by_lbfgs):
        ((weight_LFK, bias_LK),) = fit(x_LBF, labels_B, 3, ProbeConfig(epochs=40), 0)
        is_correct_LB = classifiers._logits(held_out_LBF, weight_LFK, bias_LK).argmax(2) == held_out_B
        accuracy.append(is_correct_LB.double().mean(1))
    assert (accuracy[0] - accuracy[1]).abs().max() < 0.01
    assert accuracy[0].min() > 0.4 and accuracy[0].max() < 0.99  # neither trivial nor hopeless


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3]])
def test_lbfgs_never_answers_a_class_it_has_not_seen(present):
    x_LBF, labels_B = clouds(300, seed=0, classes=len(present), spread=0.2)
    truth_B = torch.tensor(present)[labels_B]
    ((weight_LFK, bias_LK),) = classifiers.by_lbfgs(x_LBF, truth_B, 5, ProbeConfig(), 0)
    answer_LB = classifiers._logits(x_LBF, weight_LFK, bias_LK).argmax(2)
    assert set(answer_LB.unique().tolist()) == set(present)
    assert (answer_LB[2] == truth_B).double().mean() > 0.99


def test_penalised_classifiers_are_those_of_lbfgs_and_shrink_with_the_penalty():
    x_LBF, labels_B = clouds(900, seed=0)
    penalties = (0.0, 0.01, 0.3)
    config = ProbeConfig(epochs=300, learning_rate=0.1, batch_size=900)
    together = classifiers.by_adam(x_LBF, labels_B, 3, config, 0, penalties)
    solved = classifiers.by_lbfgs(x_LBF, labels_B, 3, ProbeConfig(), 0, penalties)
    sizes = [weight_LFK.square().sum().item() for weight_LFK, _ in together]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    for (weight_LFK, bias_LK), (expected_LFK, expected_LK) in list(zip(together, solved, strict=True))[1:]:
        # softmax leaves a constant per feature open; a penalty of the weights settles theirs, not that of the biases
        torch.testing.assert_close(weight_LFK, expected_LFK, atol=0.03, rtol=0)
        torch.testing.assert_close(
            bias_LK - bias_LK.mean(1, keepdim=True), expected_LK - expected_LK.mean(1, keepdim=True), atol=0.03, rtol=0
        )


def test_one_penalised_adam_step_by_hand():
    # Zero weights have no penalty, so take two steps. After the first, of 0.25 each, the gradient of the penalty is
    # 1000 x 0.25; Adam (0.9, 0.999) moves by rate x m / sqrt(v), with m and v of both steps.
    x_LBF, labels_B = torch.tensor([[[1.0], [3.0]]]).double(), torch.tensor([0, 0])
    config = ProbeConfig(epochs=2, learning_rate=0.25)
    ((weight_LFK, _),) = classifiers.by_adam(x_LBF, labels_B, 2, config, seed=0, penalties=(1000.0,))
    first = -1.0  # mean of x (p - 1) for class 0: (1 + 3) / 2 x (0.5 - 1)
    p = 1 / (1 + np.exp(-np.array([0.5 + 0.5, 1.5 + 0.5])))  # logit differences 2 x (0.25 x + 0.25)
    second = float(np.mean(np.array([1.0, 3.0]) * (p - 1))) + 1000 * 0.25
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    rate = 0.25 * 0.5 * (1 + np.cos(np.pi / 2))
    assert weight_LFK[0, 0, 0].item() == pytest.approx(0.25 - rate * mean / np.sqrt(square), rel=1e-6)


def test_classifiers_of_several_penalties_are_those_fitted_one_by_one():
    x_LBF, labels_B = clouds(200, seed=0)
    config, penalties = ProbeConfig(epochs=5, batch_size=32), (0.0, 0.01, 1.0)
    together = classifiers.by_adam(x_LBF.double(), labels_B, 3, config, 0, penalties)
    for penalty, (weight_LFK, bias_LK) in zip(penalties, together, strict=True):
        ((alone_LFK, alone_LK),) = classifiers.by_adam(x_LBF.double(), labels_B, 3, config, 0, (penalty,))
        torch.testing.assert_close(weight_LFK, alone_LFK)
        torch.testing.assert_close(bias_LK, alone_LK)


def test_whitened_features_have_unit_covariance_over_the_training_images_alone():
    generator = torch.Generator().manual_seed(0)
    mixing_LFF = torch.tensor([[[3.0, 1.0], [0.0, 0.01]], [[1.0, 2.0], [2.0, 4.0]]])  # the second has one direction
    train, test = (torch.randn(2, 50, 2, generator=generator) @ mixing_LFF + 7 for _ in range(2))
    features = {"train": [train.clone()], "test": [test.clone(), test.clone()]}
    classifiers.whiten(features)
    for layer, rank in ((0, 2), (1, 1)):
        covariance_FF = np.cov(features["train"][0][layer].numpy().T, bias=True)
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance_FF), [rank - 1, 1], atol=1e-4)
        np.testing.assert_allclose(features["train"][0][layer].mean(0), 0, atol=1e-4)
    # the same affine map for every split: what it makes of the training images it makes of others
    whole_B3 = torch.cat([train[0], torch.ones(50, 1)], 1).double()
    map_3F = torch.linalg.lstsq(whole_B3, features["train"][0][0].double()).solution
    expected_BF = torch.cat([test[0], torch.ones(50, 1)], 1).double() @ map_3F
    for view in features["test"]:
        np.testing.assert_allclose(view[0], expected_BF, atol=1e-3)


def test_whitening_lets_adam_agree_with_lbfgs_where_features_are_nearly_alike():
    x_LBF, labels_B = clouds(900, seed=0)
    held_out_LBF, held_out_B = clouds(6000, seed=1)
    alike_LFF = torch.ones(x_LBF.shape[0], x_LBF.shape[2], x_LBF.shape[2]) + 0.02 * torch.eye(x_LBF.shape[2])
    found = {}
    for name, scale in (("whiten", classifiers.whiten), ("standardise", classifiers.standardise)):
        features = {"train": [x_LBF @ alike_LFF], "test": [held_out_LBF @ alike_LFF]}
        scale(features)
        for fit in (classifiers.by_adam, classifiers.by_lbfgs):
            ((weight_LFK, bias_LK),) = fit(features["train"][0], labels_B, 3, ProbeConfig(epochs=20), 0)
            is_correct_LB = classifiers._logits(features["test"][0], weight_LFK, bias_LK).argmax(2) == held_out_B
            found[name, fit.__name__] = is_correct_LB.double().mean(1)
    assert (found["whiten", "by_adam"] - found["whiten", "by_lbfgs"]).abs().max() < 0.01
    assert (found["standardise", "by_adam"] - found["whiten", "by_lbfgs"]).abs().max() > 0.01


def test_standardised_features_are_centred_and_scaled_by_the_training_images_alone():
    train = torch.tensor(
        [[[1.0, 5.0], [3.0, 5.0]]]
    )  # one layer, two images, two features: means 2 and 5, deviation sqrt 2
    test = torch.tensor([[[2.0, 6.0]]])
    features = {"train": [train], "test": [test.clone(), test.clone()]}
    classifiers.standardise(features)
    assert features["train"][0].tolist() == [[[pytest.approx(-(0.5**0.5)), 0], [pytest.approx(0.5**0.5), 0]]]
    for view in features["test"]:
        assert view[0, 0, 0] == 0  # the training mean, although it is the test split's own mean as well
        assert view[0, 0, 1] == 1  # centred, and not divided by nothing
