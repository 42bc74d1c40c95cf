"""Fine-tuning: the joint loss by another route, twins that see the same, and an epoch chosen off the test set."""

import math

import numpy as np
import pytest
import torch
from tiny_runs import SIZE, made_images, tiny_run

from isonb.config import Cell, Execution, FinetuneConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import augmentation, checkpoint, data, finetune
from isonb.training.schedule import learning_rate
from isonb.training.train import Pretrained

OBJECTIVES = ("bert", "mse", "autoregressive")
CPU = torch.device("cpu")


def coloured(count, seed, first=0):
    """Noisy images; those of class k are brighter in channel k."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.arange(count) % 2
    pixels_BNC = torch.randint(0, 120, (count, SIZE**2, 3), generator=generator)
    pixels_BNC[torch.arange(count), :, labels_B] += 100
    return data.Split(pixels_BNC.to(torch.uint8), labels_B, torch.arange(first, first + count))


def coloured_images():
    splits = coloured(24, 1), coloured(8, 2, 100), coloured(20, 3, 200)
    return data.Images("made", ("red", "green"), SIZE, *splits, {})


def imagined(run, spread=0.3, precision="float64"):
    """A network as if it had been trained."""
    network = networks.build_network(run).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    network = network.double() if precision == "float64" else network
    return Pretrained(network, checkpoint.Progress(precision=precision), CPU)


def cell_of(run=None, **finetuning):
    return Cell(run=run or tiny_run(), finetune=FinetuneConfig(**{"epochs": 2, "augmentation": "none", **finetuning}))


def tuning(cell, images, pretrained=None, micro_batch=0):
    pretrained = pretrained or imagined(cell.run)
    return finetune._Tuning(cell, images, pretrained.network, pretrained, micro_batch, "of a test")


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differing(one, other):
    return {name for name, tensor in one.items() if not tensor.equal(other[name])}


# The result


def test_nothing_is_done_where_nothing_is_asked_for():
    assert finetune.tune(Cell(run=tiny_run()), made_images(), imagined(tiny_run())) is None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_can_be_learned_is_learned_and_the_given_network_stays_as_it_was(objective):
    run = tiny_run(objective=objective)
    pretrained = imagined(run, 0.1)
    before, state = weights(pretrained.network), torch.get_rng_state()
    cell = cell_of(run, epochs=8, learning_rate=0.03)
    tuned = finetune.tune(cell, coloured_images(), pretrained)
    assert tuned.record.accuracy == tuned.record.scratch_accuracy == 1
    assert tuned.correct_B.dtype == bool and tuned.correct_B.shape == tuned.scratch_correct_B.shape == (20,)
    assert len(tuned.record.curve) == len(tuned.record.scratch_curve) == 8
    assert tuned.record.epoch == 1 + tuned.record.curve.index(1) and tuned.record.seconds > 0
    assert differing(before, weights(pretrained.network)) == set() and not pretrained.network.training
    assert all(parameter.grad is None for parameter in pretrained.network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_again_is_the_same_to_the_last_bit():
    images, ends = coloured_images(), []
    for _ in range(2):
        one = tuning(cell_of(augmentation="flip-crop"), images, imagined(tiny_run(), precision="float32"))
        ends.append((one.train(0, lambda *_: None).curve, weights(one.classifier)))
    assert ends[0][0] == ends[1][0] and differing(ends[0][1], ends[1][1]) == set()


def test_the_epoch_is_chosen_on_validation_and_its_weights_are_tested(monkeypatch):
    images, cell = coloured_images(), cell_of(epochs=4)
    one, script, seen = tuning(cell, images), iter([2, 6, 6, 4]), []

    def is_correct(self, split):
        seen.append(weights(self.classifier))
        return np.arange(8) < (next(script) if split is images.validation else 5)

    monkeypatch.setattr(finetune._Tuning, "is_correct", is_correct)
    judged = one.train(0, lambda *_: None)
    assert (judged.curve, judged.epoch, judged.correct_B.mean()) == ([2 / 8, 6 / 8, 6 / 8, 4 / 8], 2, 5 / 8)
    *validated, tested = seen
    assert [differing(tested, then) == set() for then in validated] == [False, True, False, False]


def test_both_networks_are_recorded_each_with_its_own(monkeypatch):
    judged = {
        0: finetune._Judged(np.array([True, True, True, False]), 2, [0.25, 0.5]),
        1: finetune._Judged(np.array([False, True, False, False]), 1, [0.75, 0.5]),
    }
    monkeypatch.setattr(finetune._Tuning, "train", lambda self, part, on_step: judged[part])
    tuned = finetune.tune(cell_of(), coloured_images(), imagined(tiny_run()))
    record = tuned.record
    assert (record.accuracy, record.epoch, record.curve) == (0.75, 2, [0.25, 0.5])
    assert (record.scratch_accuracy, record.scratch_epoch, record.scratch_curve) == (0.25, 1, [0.75, 0.5])
    assert tuned.correct_B is judged[0].correct_B and tuned.scratch_correct_B is judged[1].correct_B


def test_the_protocol_says_what_was_done():
    run = tiny_run(objective="autoregressive")
    assert finetune.describe(Cell(run=run, finetune=FinetuneConfig(epochs=3))) == (
        "linear head on the mean of the last layer, all weights trained on the classes and 1 x the pre-training loss, "
        "Adam 0.001, warm-up and cosine over 3 epochs, batch 5, augmentation flip-crop, epoch chosen on validation"
    )
    other = finetune.describe(cell_of(run, generative_weight=0, batch_size=64, learning_rate=0.01))
    assert other == (
        "linear head on the mean of the last layer, all weights trained on the classes, "
        "Adam 0.01, warm-up and cosine over 2 epochs, batch 64, augmentation none, epoch chosen on validation"
    )


# What both see


def test_twins_see_the_same_new_draws_from_their_own_weights(monkeypatch):
    run, images = tiny_run(epochs=3), coloured_images()
    cell, pretrained = cell_of(run, epochs=2, augmentation="flip-crop", batch_size=10), imagined(run)
    calls, starts, losses = [], [], finetune._Tuning.losses

    def watched(self, pixels_BNC, label_B, is_scored_BNC):
        if self.step == 0:
            starts.append(weights(self.classifier.network))
        calls.append((pixels_BNC, label_B, is_scored_BNC))
        return losses(self, pixels_BNC, label_B, is_scored_BNC)

    monkeypatch.setattr(finetune._Tuning, "losses", watched)
    told = []
    finetune.tune(cell, images, pretrained, on_step=lambda *step: told.append(step[:2]))
    assert told == [(step, 12) for step in range(1, 13)]  # 3 batches of 24 images, twice, for both
    for one, other in zip(calls[:6], calls[6:], strict=True):
        assert all(map(torch.equal, one, other))
    assert differing(starts[0], weights(pretrained.network)) == set()
    assert differing(starts[1], weights(networks.build_network(run).double())) == set()

    train, expected = images.train, []
    for epoch in (3, 4):  # pre-training's were 0, 1 and 2
        for batch_B in data.epoch_order(24, seed=run.seed, epoch=epoch).split(10):
            index_B = train.index_B[batch_B]
            pixels_BNC = augmentation.augment(train.pixels_BNC[batch_B], index_B, seed=run.seed, epoch=epoch, size=SIZE)
            is_masked_BNC = objectives.sample_masks(run, index_B, "training", epoch)
            expected.append((pixels_BNC, train.labels_B[batch_B], is_masked_BNC))
    for one, other in zip(calls[:6], expected, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("run", [tiny_run(epochs=6, warmup_epochs=1.5), tiny_run(epochs=4, warmup_epochs=0)])
def test_the_rate_has_the_shape_of_pre_trainings(run, monkeypatch):
    cell = cell_of(run, epochs=2, batch_size=4, learning_rate=0.02)
    assert finetune.as_run(run, cell.finetune).warmup_epochs == 2 * run.warmup_epochs / run.epochs
    one, rates = tuning(cell, coloured_images()), []
    one.train(0, lambda *_: rates.append(one.adam.param_groups[0]["lr"]))
    like = run.model_copy(
        update={"epochs": 2, "warmup_epochs": run.warmup_epochs * 2 / run.epochs, "learning_rate": 0.02}
    )
    assert rates == [learning_rate(like, step, 6) for step in range(12)]
    assert max(rates) == 0.02
    group = one.adam.param_groups[0]
    assert (group["betas"], group["eps"]) == ((run.adam_beta1, run.adam_beta2), run.adam_eps)


def test_the_batch_is_that_of_pre_training_unless_told():
    assert finetune.as_run(tiny_run(batch_size=5), FinetuneConfig(epochs=1)).batch_size == 5
    assert finetune.as_run(tiny_run(batch_size=5), FinetuneConfig(epochs=1, batch_size=7)).batch_size == 7


# The joint loss


@pytest.mark.parametrize("head_norm", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_both_losses_equal_those_computed_apart(objective, head_norm):
    run = tiny_run(objective=objective, block="transformer", head_norm=head_norm)
    one, split = tuning(cell_of(run), coloured_images()), coloured(5, 4)
    torch.nn.init.normal_(one.classifier.classify.weight, generator=torch.Generator().manual_seed(2))
    is_scored_BNC = objectives.sample_scored(run, split.index_B, "training", 7)
    classes, generative = one.losses(split.pixels_BNC, split.labels_B, is_scored_BNC)
    network, head = one.classifier.network, one.classifier.classify
    expected, _ = objectives.summed_loss(run, network, split.pixels_BNC, is_scored_BNC)
    assert generative.item() == pytest.approx(expected.item(), rel=1e-12)

    shown = None if objective == "autoregressive" else is_scored_BNC
    last_BND = network.forward_layers(split.pixels_BNC, shown)[-1].detach().numpy()
    nats = 0.0
    for last_ND, label in zip(last_BND, split.labels_B.tolist(), strict=True):
        if head_norm:
            centred_ND = last_ND - last_ND.mean(1, keepdims=True)
            last_ND = centred_ND / np.sqrt((centred_ND**2).mean(1, keepdims=True) + run.layer_norm_eps)
            last_ND = last_ND * network.head_norm.weight.detach().numpy() + network.head_norm.bias.detach().numpy()
        logits_K = head.weight.detach().numpy() @ last_ND.mean(0) + head.bias.detach().numpy()
        nats += math.log(np.exp(logits_K).sum()) - logits_K[label]
    assert classes.item() == pytest.approx(nats, rel=1e-9)


def test_the_first_step_is_of_an_even_guess_and_pre_trainings_loss():
    cell = cell_of(tiny_run(batch_size=24), generative_weight=0.5)
    images = coloured_images()
    one = tuning(cell, images)
    is_masked_BNC = objectives.sample_masks(cell.run, images.train.index_B, "training", cell.run.epochs)
    total, count = objectives.summed_loss(cell.run, one.classifier.network, images.train.pixels_BNC, is_masked_BNC)
    assert not one.classifier.classify.weight.any() and not one.classifier.classify.bias.any()
    first = one._step(cell.run.epochs, torch.arange(24))
    assert first == pytest.approx(math.log(2) + 0.5 * total.item() / count, rel=1e-12)


def test_an_epoch_is_adams_steps_one_after_the_other():
    run = tiny_run(batch_size=10, adam_beta2=0.9, weight_decay=0.1)
    cell, images = cell_of(run, epochs=1), coloured_images()
    one, by_hand = tuning(cell, images), tuning(cell, images, imagined(run))
    adam = torch.optim.AdamW(by_hand.classifier.parameters(), betas=(0.9, 0.9), eps=1e-7, weight_decay=0.1)
    for step, batch_B in enumerate(data.epoch_order(24, seed=run.seed, epoch=run.epochs).split(10)):
        train = images.train
        is_masked_BNC = objectives.sample_masks(run, train.index_B[batch_B], "training", run.epochs)
        classes, generative = by_hand.losses(train.pixels_BNC[batch_B], train.labels_B[batch_B], is_masked_BNC)
        adam.param_groups[0]["lr"] = learning_rate(finetune.as_run(run, cell.finetune), step, 3)
        adam.zero_grad()
        (classes / len(batch_B) + generative / is_masked_BNC.sum()).backward()
        adam.step()
    one.train(0, lambda *_: None)
    for name, tensor in weights(by_hand.classifier).items():
        torch.testing.assert_close(weights(one.classifier)[name], tensor, rtol=1e-7, atol=1e-10)


def test_every_weight_is_trained_and_without_a_weight_for_it_the_head_over_values_is_not():
    trained = {}
    for weight in (1.0, 0.0):
        one = tuning(
            cell_of(tiny_run(encoding="pix2vec", block="transformer"), generative_weight=weight), coloured_images()
        )
        before = weights(one.classifier)
        one.train(0, lambda *_: None)
        trained[weight] = differing(before, weights(one.classifier))
    assert trained[1.0] == set(before)
    assert trained[1.0] - trained[0.0] == {"network.head.weight", "network.head.bias"}


def moved(pixels_BNC, where_BNC):
    return torch.where(where_BNC, 255 - pixels_BNC, pixels_BNC)


@pytest.mark.parametrize("weight", [1.0, 0.0])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_classes_are_told_from_what_is_shown(objective, weight):
    """Masked pixels are hidden from the classifier, too, unless nothing is to be filled in; the rest is seen."""
    run = tiny_run(objective=objective)
    one, split = tuning(cell_of(run, generative_weight=weight), coloured_images()), coloured(5, 4)
    torch.nn.init.normal_(one.classifier.classify.weight, generator=torch.Generator().manual_seed(2))
    is_masked_BNC = objectives.sample_masks(run, split.index_B, "training")
    is_scored_BNC = torch.ones_like(is_masked_BNC) if objective == "autoregressive" else is_masked_BNC

    def nats(pixels_BNC):
        return one.losses(pixels_BNC, split.labels_B, is_scored_BNC)[0].item()

    usual = nats(split.pixels_BNC)
    is_hidden = objective != "autoregressive" and weight > 0
    assert (nats(moved(split.pixels_BNC, is_masked_BNC)) == usual) is is_hidden
    assert nats(moved(split.pixels_BNC, ~is_masked_BNC)) != usual


def test_images_are_judged_whole():
    one, split = tuning(cell_of(), coloured_images()), coloured(90, 4)  # more than a chunk
    torch.nn.init.normal_(one.classifier.classify.weight, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x_BND = one.classifier.network.forward_layers(split.pixels_BNC)[-1]
        answer_B = one.classifier.classify(one.classifier.network.head_norm(x_BND).mean(1)).argmax(1)
    is_correct_B = one.is_correct(split)
    assert is_correct_B.tolist() == (answer_B == split.labels_B).tolist()
    assert 0 < is_correct_B.mean() < 1


def test_parts_of_a_batch_add_up_to_it():
    cell, images, ends = cell_of(batch_size=12), coloured_images(), []
    for micro_batch in (0, 5):
        one = tuning(cell, images, micro_batch=micro_batch)
        ends.append([one._step(2, batch_B) for batch_B in torch.arange(24).split(12)])
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
    told = []
    finetune.tune(cell_of(epochs=1), images, imagined(cell.run), Execution(micro_batch=2), lambda *_: told.append(1))
    assert len(told) == 2 * 5  # steps of 5 images, not of parts


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_both_are_trained_in_the_precision_of_pre_training(precision):
    pretrained = imagined(tiny_run(), 0.1, precision)
    one = tuning(cell_of(), coloured_images(), pretrained)
    kind = torch.float64 if precision == "float64" else torch.float32
    assert {parameter.dtype for parameter in one.classifier.parameters()} == {kind}
    tuned = finetune.tune(cell_of(epochs=6, learning_rate=0.03), coloured_images(), pretrained)
    assert min(tuned.record.accuracy, tuned.record.scratch_accuracy) > 0.9


def test_what_is_not_finite_ends_in_one_sentence():
    pretrained = imagined(tiny_run(epochs=2, warmup_epochs=0.0))
    pretrained.network.blocks[0].conv1.weight.data.fill_(math.inf)
    with pytest.raises(finetune.FinetuneError) as refusal:
        finetune.tune(cell_of(tiny_run(epochs=2, warmup_epochs=0.0)), coloured_images(), pretrained)
    assert str(refusal.value) == (
        "The loss or its gradient is not finite at step 0 of fine-tuning with learning rate 0.001: "
        "lower finetune_learning_rate."
    )
