"""What a finished run leaves: every number of its record against the function that measured it, and its arrays."""

import json
import subprocess

import numpy as np
import pytest
import torch

import isonb
from isonb import config, features, numerics, records
from isonb.config import Execution
from isonb.models import network as networks
from isonb.training import checkpoint, data, evaluate, finetune, outcome, probes
from isonb.training.train import Pretrained


def random_split(images, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels_BNC = torch.randint(0, 256, (images, 64, 3), generator=generator, dtype=torch.uint8)
    return data.Split(pixels_BNC, torch.arange(images) % 3, torch.arange(images))


IMAGES = data.Images(
    "made", ("a", "b", "c"), 8, random_split(12, 1), random_split(5, 2), random_split(7, 3), {"file": "00ff"}
)
CURVE = [
    records.Epoch(epoch=0, learning_rate=0, train_loss=None, validation_loss=5.5, seconds=1, images=0),
    records.Epoch(epoch=1, learning_rate=0.01, train_loss=5.25, validation_loss=5.125, seconds=2, images=12),
]


def finished(encoding="continuous", **changes):
    """A cell, its network after some imagined training, and what is recorded of it."""
    cell = config.smoke(encoding=encoding, width=8, image_size=8, evaluation_masks=2, probe_epochs=2, **changes)
    network = networks.build_network(cell.run).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    progress = checkpoint.Progress(step=6, curve=CURVE, seconds=3.5, processes=2, peak_memory_bytes=1234)
    pretrained = Pretrained(network, progress, torch.device("cpu"))
    probed = probes.of_network(network, IMAGES, cell.probe)
    record, arrays = outcome.record(cell, IMAGES, pretrained, probed, Execution(compile=True))
    return cell, network, probed, record, arrays


def test_a_record_holds_what_was_measured():
    cell, network, probed, record, _ = finished(depth=2)
    assert (record.cell, record.run_id, record.probe) == (cell, cell.run.run_id, probed.record)
    assert record.numerics == numerics.NUMERICS
    assert record.data == records.Data(
        name="made", classes=["a", "b", "c"], train=12, validation=5, test=7, sha256={"file": "00ff"}
    )
    nats_B, count_B = evaluate.loss_per_image(network, cell.run, IMAGES.test, "float32")
    assert record.training.test_loss == pytest.approx((nats_B.sum() / count_B.sum()).item())
    assert record.training.validation_loss == 5.125  # after the last epoch
    assert record.training.curve == CURVE
    assert (record.training.steps, record.training.seconds, record.training.peak_memory_bytes) == (6, 3.5, 1234)
    assert record.baselines == evaluate.baselines(cell.run, IMAGES)
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, cell.run, IMAGES.test, "float32", torch.arange(7))
    scores = evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, IMAGES.test.pixels_BNC)
    assert record.reconstruction == scores


def test_the_arrays_are_pictures_masks_and_paired_results():
    cell, network, probed, _, arrays = finished()
    nats_B, count_B = evaluate.loss_per_image(network, cell.run, IMAGES.test, "float32")
    np.testing.assert_allclose(arrays["test_loss_B"], (nats_B / count_B).numpy(), rtol=1e-6)
    assert np.array_equal(arrays["test_correct_LB"], probed.arrays["test_correct_LB"])
    masked, filled, original = records.pictures(arrays)
    assert original.dtype == masked.dtype == filled.dtype == np.uint8
    assert original.shape == masked.shape == filled.shape == (3, 8, 8, 3)
    assert np.array_equal(original[1, 2, 5], IMAGES.test.pixels_BNC[1, 2 * 8 + 5])  # row 2, column 5
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, cell.run, IMAGES.test, "float32", torch.arange(3))
    is_masked = is_masked_BNC.numpy().reshape(3, 8, 8, 3)
    assert (masked[is_masked] == 128).all() and np.array_equal(masked[~is_masked], original[~is_masked])
    assert np.array_equal(filled, filled_BNC.numpy().reshape(3, 8, 8, 3))
    assert is_masked.any() and "similarity_P" not in arrays


def test_a_fine_tuned_network_leaves_its_accuracies_and_what_each_twin_gets_right():
    cell, network, probed, plain, without = finished(finetune_epochs=2)
    assert plain.finetune is None and not {"finetune_correct_B", "scratch_correct_B"} & set(without)
    pretrained = Pretrained(network, checkpoint.Progress(curve=CURVE), torch.device("cpu"))
    tuned = finetune.tune(cell, IMAGES, pretrained)
    record, arrays = outcome.record(cell, IMAGES, pretrained, probed, Execution(), tuned)
    assert record.finetune == tuned.record
    assert record.finetune.accuracy == arrays["finetune_correct_B"].mean()
    assert record.finetune.scratch_accuracy == arrays["scratch_correct_B"].mean()
    assert arrays["finetune_correct_B"].shape == arrays["scratch_correct_B"].shape == (7,)


def test_only_pix2vec_keeps_a_picture_of_its_learned_table():
    _, network, _, _, arrays = finished("pix2vec")
    red_VD = network.encoding.embedding_CVF[0].detach().double()
    unit_VD = red_VD / red_VD.norm(dim=1, keepdim=True)
    similarity_VV = features.unpack_similarity(arrays["similarity_P"])
    np.testing.assert_allclose(similarity_VV, unit_VD @ unit_VD.T, atol=1 / 64 + 1e-6)


@pytest.mark.parametrize("encoding", config.ENCODINGS)
def test_what_the_encoding_keeps_of_distance_is_measured_before_and_after_training(encoding):
    cell, network, _, record, _ = finished(encoding)
    for found, of in ((record.encoding.before, networks.build_network(cell.run)), (record.encoding.after, network)):
        for channel, kept in enumerate(found):
            rows_VD = of.encoding.table()[channel].detach().double().numpy()
            similarity_VV = features.cosine_similarity(rows_VD).round(6)
            assert kept.kept == features.distance_kept(similarity_VV)
            assert kept.kept_off_band == features.distance_kept(similarity_VV, nearest=9)
            assert kept.half_width == features.half_width(features.similarity_profile(similarity_VV))
            assert kept.rank == features.rank_at_energy(rows_VD)
    assert record.encoding.before != record.encoding.after


def test_a_continuous_encoding_starts_with_two_directions_and_one_dimension():
    _, _, _, record, _ = finished("continuous")
    for kept in record.encoding.before:  # p w without a bias: the cosine of two values is the sign of their product
        # of the 256 - d pairs at distance d, d lie across the middle: 1 - 2 d / (256 - d) < 1/2 from d = 52 on
        assert (kept.rank, kept.half_width) == (1, 52)
        assert kept.kept == pytest.approx(features.distance_kept(np.sign(np.outer(*[np.arange(256) - 127.5] * 2))))


def test_a_record_survives_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    cell, _, _, record, arrays = finished("rff", block="transformer")
    path = records.write_record(record, arrays)
    assert records.finished(cell) == record
    assert json.loads(path.read_text())["probe"]["protocol"].startswith("mean-pooled")
    read = records.read_arrays(path)
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)


def test_counts_are_of_the_network_that_ran():
    # conv at width 8 on 64 positions: 3 maps of 1 value with bias, 2 convolutions and 2 norms per block, and the head
    counts = outcome.counts(networks.build_network(config.smoke(width=8, image_size=8, depth=3).run))
    block = 2 * (9 * 8 * 8 + 8) + 2 * 2 * 8
    assert counts.parameters_per_block == block
    assert counts.parameters == 3 * (8 + 8) + 3 * block + 2 * 8 + (8 * 768 + 768)
    assert counts.multiply_accumulates_per_block == 2 * 9 * 64 * 8 * 8
    assert counts.multiply_accumulates == 3 * counts.multiply_accumulates_per_block + round(0.15 * 64) * 8 * 768


def test_the_environment_is_this_one():
    _, _, _, record, _ = finished()
    environment = record.environment
    assert (environment.isonb, environment.torch, environment.numpy) == (
        isonb.__version__, torch.__version__, np.__version__
    )  # fmt: skip
    assert (environment.processes, environment.precision, environment.compiled) == (2, "float32", True)
    assert environment.threads == torch.get_num_threads() and environment.device


@pytest.mark.parametrize(("status", "is_dirty"), [("", False), (" M isonb/config.py\n", True)])
def test_the_revision_says_whether_the_code_was_changed(monkeypatch, status, is_dirty):
    def answer(command, **_):
        return subprocess.CompletedProcess(command, 0, stdout="abc123\n" if "rev-parse" in command else status)

    monkeypatch.setattr(subprocess, "run", answer)
    progress = checkpoint.Progress(curve=CURVE)
    made = outcome.environment(Execution(), torch.device("cpu"), progress.precision, progress.processes)
    assert (made.git_revision, made.git_dirty) == ("abc123", is_dirty)


@pytest.mark.parametrize("error", [OSError("no git"), subprocess.CalledProcessError(128, "git")])
def test_outside_a_checkout_the_revision_is_unknown(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    made = outcome.environment(Execution(), torch.device("cpu"), "float32")
    assert made.git_revision is None and made.git_dirty is None
