"""The trainer on one process: against a plain loop, twice the same, and what ends a run before its time."""

import math
import os
import signal
import threading

import pytest
import torch
from tiny_runs import assert_same_bits, curve, made_images, pretrain, tiny_run, weights
from torch.nn import functional as F

from isonb import draws
from isonb.config import Execution
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import checkpoint, evaluate, train
from isonb.training.schedule import learning_rate


def mean_nats(network, run, split, image_B, purpose, repeat):
    """The loss of equation 5 from the full logits: the mean over masked sub-pixels, and how many there are."""
    is_masked_BNC = objectives.sample_masks(run, split.index_B[image_B], purpose, repeat)
    x_BND = network.embed(split.pixels_BNC[image_B], is_masked_BNC)
    for block in network.blocks:
        x_BND = block(x_BND)
    logits_BNCV = network.head(network.head_norm(x_BND)).unflatten(2, (3, 256))
    loss = F.cross_entropy(logits_BNCV[is_masked_BNC], split.pixels_BNC[image_B][is_masked_BNC].long())
    return loss, int(is_masked_BNC.sum())


@pytest.mark.parametrize("block", ["conv", "mixer", "transformer"])
def test_a_run_is_what_a_plain_loop_computes(block, tmp_path):
    run, images = tiny_run(block=block, encoding="pix2vec", learning_rate=0.003), made_images()
    network = networks.build_network(run).double()
    adam = torch.optim.Adam(network.parameters(), betas=(0.9, 0.999), eps=1e-7)
    rates = [0.001, 0.002, 0.003]  # the warm-up is one epoch of three steps, then half a cosine of three
    rates += [0.0015 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]
    losses = []
    for epoch in range(2):
        order_B = draws.permutation(run.seed, "batch order", 13, epoch)
        nats = masked = 0
        for number, image_B in enumerate(torch.from_numpy(order_B).split(5)):
            loss, count = mean_nats(network, run, images.train, image_B, "training", epoch)
            adam.zero_grad()
            loss.backward()
            adam.param_groups[0]["lr"] = rates[3 * epoch + number]
            adam.step()
            nats, masked = nats + loss.item() * count, masked + count
        losses.append(nats / masked)
    parts = [mean_nats(network, run, images.validation, torch.arange(3), "evaluation", repeat) for repeat in range(2)]
    validation = sum(loss.item() * count for loss, count in parts) / sum(count for _, count in parts)

    ours = pretrain(run, tmp_path)
    rows = ours.progress.curve
    assert [row.train_loss for row in rows] == [None, *(pytest.approx(loss, rel=1e-12) for loss in losses)]
    assert rows[0].validation_loss == pytest.approx(math.log(256), rel=1e-12)  # the head starts at zero
    assert rows[2].validation_loss == pytest.approx(validation, rel=1e-12)
    assert [row.learning_rate for row in rows] == pytest.approx([0.0, rates[2], rates[5]])
    assert [row.images for row in rows] == [0, 13, 13]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(weights(ours)[name], tensor, rtol=0, atol=1e-12)
    assert {tensor.dtype for tensor in weights(ours).values()} == {torch.float64}


def test_autoregression_is_what_a_plain_loop_computes(tmp_path):
    run = tiny_run(objective="autoregressive", block="mixer", epochs=1, warmup_epochs=0, learning_rate=0.003)
    images, network = made_images(), networks.build_network(run).double()
    adam = torch.optim.Adam(network.parameters(), betas=(0.9, 0.999), eps=1e-7)
    total, count = 0.0, 0
    for step, image_B in enumerate(torch.from_numpy(draws.permutation(0, "batch order", 13, 0)).split(5)):
        pixels_BNC = images.train.pixels_BNC[image_B]
        x_BND = network.head_norm(network.blocks[0](network.embed(pixels_BNC)))
        logits_BNCV = network.head(x_BND).unflatten(2, (3, 256))
        loss = F.cross_entropy(logits_BNCV.flatten(0, 2), pixels_BNC.long().flatten())
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = 0.0015 * (1 + math.cos(math.pi * step / 3))
        adam.step()
        total, count = total + loss.item() * pixels_BNC.numel(), count + pixels_BNC.numel()
    ours = pretrain(run, tmp_path)
    assert ours.progress.curve[1].train_loss == pytest.approx(total / count, rel=1e-12)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(weights(ours)[name], tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_parts_of_a_batch_add_up_to_the_whole(micro_batch, tmp_path):
    """Batches of five and three leave a last part of one image."""
    run = tiny_run(block="transformer", encoding="rff")
    whole, parts = pretrain(run, tmp_path / "whole"), pretrain(run, tmp_path / "parts", micro_batch=micro_batch)
    for name, rows in (("validation_loss", slice(None)), ("train_loss", slice(1, None))):  # row 0 is before any step
        found, expected = ([row[name] for row in curve(one)[rows]] for one in (parts, whole))
        assert found == pytest.approx(expected, rel=1e-9)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor, rtol=0, atol=1e-9)


def test_a_regression_is_what_a_plain_loop_computes(tmp_path):
    run, images = tiny_run(objective="mse", epochs=1, warmup_epochs=0, learning_rate=0.003), made_images()
    network = networks.build_network(run).double()
    adam = torch.optim.Adam(network.parameters(), betas=(0.9, 0.999), eps=1e-7)
    total, count = 0.0, 0
    for step, image_B in enumerate(torch.from_numpy(draws.permutation(0, "batch order", 13, 0)).split(5)):
        is_masked_BNC = objectives.sample_masks(run, images.train.index_B[image_B], "training", 0)
        pixels_BNC = images.train.pixels_BNC[image_B]
        x_BND = network.head_norm(network.blocks[0](network.embed(pixels_BNC, is_masked_BNC)))
        square_S = (network.head(x_BND) - (pixels_BNC.double() / 127.5 - 1))[is_masked_BNC] ** 2
        adam.zero_grad()
        square_S.mean().backward()
        adam.param_groups[0]["lr"] = 0.0015 * (1 + math.cos(math.pi * step / 3))
        adam.step()
        total, count = total + square_S.sum().item(), count + len(square_S)
    pretrained = pretrain(run, tmp_path)
    assert pretrained.progress.curve[1].train_loss == pytest.approx(total / count, rel=1e-9)
    for name, tensor in weights(pretrained).items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-7, atol=1e-9)


def test_the_rate_rises_without_a_step_of_zero_and_falls_to_nearly_zero():
    run = tiny_run(learning_rate=0.01, warmup_epochs=0.5, epochs=2)
    rates = [learning_rate(run, step, 4) for step in range(8)]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[3:] == pytest.approx([0.005 * (1 + math.cos(math.pi * step / 6)) for step in range(1, 6)])
    assert learning_rate(tiny_run(warmup_epochs=0), 0, 4) == 0.01
    assert learning_rate(tiny_run(epochs=1, warmup_epochs=1), 3, 4) == 0.01


@pytest.mark.parametrize(
    ("changes", "precision"),
    [
        ({"block": "conv"}, "bfloat16"),
        ({"block": "mixer", "encoding": "rff"}, "bfloat16"),
        ({"block": "transformer", "encoding": "pix2vec"}, "bfloat16"),
        ({"block": "conv", "encoding": "pix2vec", "augmentation": "flip-crop"}, "float32"),
    ],
    ids=["conv", "mixer", "transformer", "conv float32"],
)
def test_the_same_run_twice_gives_the_same_bits(changes, precision, tmp_path):
    runs = [pretrain(tiny_run(**changes), tmp_path / name, precision=precision) for name in "ab"]
    assert_same_bits(*runs)
    assert runs[0].progress.precision == precision
    assert curve(pretrain(tiny_run(**changes, seed=1), tmp_path / "c", precision=precision)) != curve(runs[0])


def test_a_precision_that_needs_no_hardware_is_chosen_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    for has_tiles, precision in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_tiles=has_tiles: has_tiles)
        assert evaluate.resolve_precision(Execution(), torch.device("cpu")) == precision
    assert evaluate.resolve_precision(Execution(precision="float64"), torch.device("cpu")) == "float64"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_by_a_checkpoint_after_the_step(number, tmp_path):
    def on_step(step, steps, loss):
        if step == 2:
            os.kill(os.getpid(), number)

    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt, match=r"Stopped after step 3 of 6: run the same command again"):
        pretrain(tiny_run(), tmp_path, on_step)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003.safetensors"]
    assert_same_bits(pretrain(tiny_run(), tmp_path), pretrain(tiny_run(), tmp_path / "uninterrupted"))


def test_a_run_that_goes_on_knows_on_how_many_threads_it_ever_computed(tmp_path):
    def stop(step, *_):
        os.kill(os.getpid(), signal.SIGTERM)

    here = torch.get_num_threads()
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            with pytest.raises(KeyboardInterrupt):
                pretrain(tiny_run(), tmp_path, stop)
        torch.set_num_threads(3)
        assert pretrain(tiny_run(), tmp_path).progress.threads == [2, 1, 3]
        torch.set_num_threads(4)
        assert pretrain(tiny_run(), tmp_path).progress.threads == [2, 1, 3]  # no step was left
    finally:
        torch.set_num_threads(here)


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(pretrain(tiny_run(), tmp_path / "thread")))
    thread.start()
    thread.join()
    assert_same_bits(done[0], pretrain(tiny_run(), tmp_path / "main"))


def poison(what, at, monkeypatch):
    """From call number `at` on, the loss is not a number or its gradient is infinite."""
    sound, calls = objectives.summed_loss, []

    def summed_loss(*arguments):
        calls.append(1)
        nats, count = sound(*arguments)
        if len(calls) <= at:
            return nats, count
        if what == "loss":
            return nats * math.nan, count
        nats.register_hook(lambda gradient: gradient * math.inf)
        return nats, count

    monkeypatch.setattr(objectives, "summed_loss", summed_loss)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_run_that_diverges_says_when_and_leaves_sound_weights(what, tmp_path, monkeypatch):
    poison(what, 4, monkeypatch)
    with pytest.raises(train.TrainingError) as error:
        pretrain(tiny_run(), tmp_path, checkpoint_seconds=0)
    kept = tmp_path / "step-00000004.safetensors"
    assert str(error.value) == (
        f"The {what} is not finite at step 4 with learning rate 0.0075; lower the learning rate. "
        f"The last good checkpoint is {kept}."
    )
    assert checkpoint.latest(tmp_path) == kept
    saved = checkpoint.read(kept.read_bytes(), tiny_run(), tmp_path)
    assert all(tensor.isfinite().all() for tensor in saved.tensors.values())
    monkeypatch.undo()
    assert_same_bits(pretrain(tiny_run(), tmp_path), pretrain(tiny_run(), tmp_path / "sound"))


def test_a_run_that_diverges_at_once_says_that_nothing_was_saved(tmp_path, monkeypatch):
    poison("loss", 0, monkeypatch)
    with pytest.raises(train.TrainingError, match=r"at step 0 .* No checkpoint had been written yet"):
        pretrain(tiny_run(), tmp_path)


def test_an_infinite_validation_loss_is_a_divergence(tmp_path, monkeypatch):
    infinite = torch.full((3,), math.inf, dtype=torch.float64), torch.ones(3, dtype=torch.int64)
    monkeypatch.setattr(evaluate, "loss_per_image", lambda *_: infinite)
    with pytest.raises(train.TrainingError, match="The validation loss is not finite at step 0"):
        pretrain(tiny_run(), tmp_path)
