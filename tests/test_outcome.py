"""What a finished run leaves: every number of its record against the function that measured it, and its arrays."""

import json
import os
import subprocess

import numpy as np
import pytest
import scipy.stats
import torch

import isonb
from isonb import config, features, numerics, places, records, rows, schema
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
PALETTE_KC = np.random.default_rng(0).integers(0, 256, (512, 3), np.uint8)
CURVE = [
    schema.Epoch(epoch=0, learning_rate=0, train_loss=None, validation_loss=5.5, seconds=1, images=0),
    schema.Epoch(epoch=1, learning_rate=0.01, train_loss=5.25, validation_loss=5.125, seconds=2, images=12),
]


def finished(encoding="continuous", **changes):
    """A cell, its network after some imagined training, and what is recorded of it."""
    small = {"width": 8, "image_size": 8, "evaluation_masks": 2, "epochs": 1, "warmup_epochs": 0, "probe_epochs": 2}
    cell = config.smoke(encoding=encoding, **small | changes)
    network = networks.build_network(cell.run, PALETTE_KC).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    here = torch.get_num_threads()
    progress = checkpoint.Progress(
        step=3, curve=CURVE, seconds=3.5, processes=2, peak_memory_bytes=1234, threads=[here + 3, here, here + 1]
    )
    pretrained = Pretrained(network, progress, torch.device("cpu"))
    probed = probes.of_network(network, IMAGES, cell.probe)
    record, arrays = outcome.record(cell, IMAGES, pretrained, probed, Execution(compile=True))
    return cell, network, probed, record, arrays


def test_a_record_holds_what_was_measured():
    cell, network, probed, record, _ = finished(depth=2)
    assert (record.cell, record.run_id, record.probe) == (cell, cell.run.run_id, probed.record)
    assert record.numerics == numerics.NUMERICS
    assert record.data == schema.Data(
        name="made", classes=["a", "b", "c"], train=12, validation=5, test=7, sha256={"file": "00ff"}
    )
    nats_B, count_B = evaluate.loss_per_image(network, cell.run, IMAGES.test, "float32")
    assert record.training.test_loss == pytest.approx((nats_B.sum() / count_B.sum()).item())
    assert record.training.validation_loss == 5.125  # after the last epoch
    assert record.training.curve == CURVE
    assert (record.training.steps, record.training.seconds, record.training.peak_memory_bytes) == (3, 3.5, 1234)
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
    pretrained = Pretrained(network, checkpoint.Progress(step=3, curve=CURVE), torch.device("cpu"))
    tuned = finetune.tune(cell, IMAGES, pretrained)
    record, arrays = outcome.record(cell, IMAGES, pretrained, probed, Execution(), tuned)
    assert record.finetune == tuned.record
    assert record.finetune.accuracy == arrays["finetune_correct_B"].mean()
    assert record.finetune.scratch_accuracy == arrays["scratch_correct_B"].mean()
    assert arrays["finetune_correct_B"].shape == arrays["scratch_correct_B"].shape == (7,)


def test_learned_positions_are_kept_as_maps(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert all("positions_QN" not in finished(block="transformer", positions=kind)[4] for kind in ("none", "sincos"))
    _, network, _, record, arrays = finished(block="transformer")
    unit_ND = torch.nn.functional.normalize(network.position_ND.detach().double(), dim=1)
    places = [row * 8 + column for row in (0, 2, 4, 5, 7) for column in (0, 2, 4, 5, 7)]  # the middles of fifths of 8
    maps_QHW = features.unpack_positions(arrays["positions_QN"])
    np.testing.assert_allclose(maps_QHW.reshape(25, 64), unit_ND[places] @ unit_ND.T, atol=1 / 64 + 1e-6)
    path = records.write_record(record, {**arrays, "positions_QN": arrays["positions_QN"][1:]})
    with pytest.raises(records.RecordError, match="positions_QN"):
        records.read(path)


def test_only_pix2vec_keeps_a_picture_of_its_learned_table():
    _, network, _, _, arrays = finished("pix2vec")
    red_VD = network.encoding.embedding_CVF[0].detach().double()
    unit_VD = red_VD / red_VD.norm(dim=1, keepdim=True)
    similarity_VV = features.unpack_similarity(arrays["similarity_P"])
    np.testing.assert_allclose(similarity_VV, unit_VD @ unit_VD.T, atol=1 / 64 + 1e-6)


@pytest.mark.parametrize("encoding", [name for name in config.ENCODINGS if not rows.ENCODINGS[name].reads_palette])
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


@pytest.mark.parametrize("encoding", ["palette", "pix2vec"])
def test_a_palette_is_kept_with_what_it_costs_and_what_its_table_learns(tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    cell, network, _, record, arrays = finished(encoding, target="palette")
    assert np.array_equal(arrays["palette_KC"], PALETTE_KC)
    original_BNC = IMAGES.test.pixels_BNC.numpy().astype(int)
    masked_BN = evaluate.reconstruct(network, cell.run, IMAGES.test, "float32", torch.arange(7))[1][..., 0].numpy()
    apart_PK = np.linalg.norm(original_BNC[masked_BN][:, None] - PALETTE_KC.astype(int), axis=2)
    error_PC = np.abs(original_BNC[masked_BN] - PALETTE_KC.astype(int)[apart_PK.argmin(1)])
    assert record.palette.nearest.mean_absolute_error == pytest.approx(error_PC.mean())
    assert record.palette.nearest.share_within_8 == pytest.approx((error_PC <= 8).mean())
    assert record.palette.nearest.colour_error == pytest.approx(apart_PK.min(1).mean())
    assert {*map(tuple, arrays["filled_S"].reshape(-1, 3).tolist())} <= {*map(tuple, PALETTE_KC.tolist())}
    if encoding == "palette":
        rows_KD = network.encoding.embedding_CVF[0].detach().double().numpy()
        unit_KD = rows_KD / np.linalg.norm(rows_KD, axis=1, keepdims=True)
        apart_KK = np.linalg.norm(PALETTE_KC[:, None].astype(float) - PALETTE_KC, axis=2)
        pairs = np.triu_indices(512, 1)
        expected = scipy.stats.spearmanr((unit_KD @ unit_KD.T)[pairs], -apart_KK[pairs]).statistic
        assert record.palette.after == pytest.approx(expected, abs=1e-5) and record.encoding is None
        assert -0.05 < record.palette.before < 0.05  # initial rows know nothing of colours
    else:
        assert record.palette.after is None and record.encoding
    path = records.write_record(record, arrays)
    assert records.read(path)[0].palette == record.palette
    for missing in ("palette_KC", "original_BHWC"):
        records.write_record(record, {name: array for name, array in arrays.items() if name != missing})
        with pytest.raises(records.RecordError, match=f"{missing} is missing|original_BHWC"):
            records.read(path)


def test_a_palette_that_a_record_should_not_have_is_refused():
    record = finished("continuous")[3]
    palette = finished("palette")[3].palette
    with pytest.raises(schema.pydantic.ValidationError, match="a palette that its settings have not"):
        schema.Record.model_validate(record.model_dump() | {"palette": palette.model_dump()})


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
    assert records.finished(cell).model_copy(update={"checksums": None}) == record
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
    assert environment.earlier_threads == [environment.threads + 3, environment.threads + 1]


# Provenance


def git(folder, *arguments):
    """The output of git for a person who has a name and nothing else."""
    person = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    names = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, env=person, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(folder):
    """A repository with one commit of the package, whose revision is returned."""
    (folder / "isonb").mkdir(parents=True)
    (folder / "isonb/config.py").write_text(str(folder))
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return git(folder, "rev-parse", "HEAD")


def provenance(folder, monkeypatch):
    monkeypatch.setattr(places, "PROJECT", folder)
    made = outcome.environment(Execution(), torch.device("cpu"), "float32")
    return made.git_revision, made.git_dirty


@pytest.mark.parametrize(
    ("change", "is_dirty"),
    [
        (lambda folder: None, False),
        (lambda folder: (folder / "isonb/config.py").write_text("other"), True),
        (lambda folder: (folder / "isonb/config.py").unlink(), True),
        (lambda folder: (folder / "isonb/new.py").touch(), True),
        (lambda folder: (folder / "notes.txt").touch(), False),
        (lambda folder: os.utime(folder / "isonb/config.py", (1, 1)), False),
        (lambda folder: (folder / ".git/index").write_text("cut"), None),
    ],
    ids=["as committed", "changed", "removed", "added", "elsewhere", "touched", "git fails"],
)
def test_the_revision_says_whether_the_code_was_changed(tmp_path, monkeypatch, change, is_dirty):
    revision = repository(tmp_path / "project")
    change(tmp_path / "project")
    index = (tmp_path / "project/.git/index").read_bytes()
    assert provenance(tmp_path / "project", monkeypatch) == (revision, is_dirty)
    assert (tmp_path / "project/.git/index").read_bytes() == index


@pytest.mark.parametrize("place", [".", "vendored/isonb-main"])
def test_a_project_without_a_repository_of_its_own_has_no_revision(tmp_path, monkeypatch, place):
    repository(tmp_path / "somebody")
    folder = tmp_path / "somebody" / "unpacked" / place
    (folder / "isonb").mkdir(parents=True)
    assert provenance(folder, monkeypatch) == (None, None)


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_a_repository_that_lies_elsewhere_is_the_projects_own(tmp_path, monkeypatch, kind):
    revision = repository(tmp_path / "source")
    if kind == "worktree":
        git(tmp_path / "source", "worktree", "add", "--quiet", "--detach", tmp_path / "project")
        folder = tmp_path / "project"
    else:
        repository(tmp_path / "above")
        adding = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "source", "project")
        git(tmp_path / "above", *adding)
        folder = tmp_path / "above/project"
    assert provenance(folder, monkeypatch) == (revision, False)
    (folder / "isonb/config.py").write_text("other")
    assert provenance(folder, monkeypatch) == (revision, True)


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_DIR": "{other}/.git"},
        {"GIT_DIR": "{other}/.git", "GIT_WORK_TREE": "{other}"},
        {"GIT_DIR": "/nowhere"},
        {"GIT_INDEX_FILE": "{other}/index"},
        {"GIT_OBJECT_DIRECTORY": "{other}/.git/objects"},
        {"GIT_NAMESPACE": "n", "GIT_PREFIX": "sub/"},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "status.showUntrackedFiles", "GIT_CONFIG_VALUE_0": "no"},
        {"GIT_CONFIG_PARAMETERS": "'core.worktree'='{other}'"},
        {"GIT_CONFIG_GLOBAL": "{other}/gitconfig"},
        {"HOME": "{other}"},
        {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"},
        {"GIT_LITERAL_PATHSPECS": "x", "GIT_TRACE": "1", "GIT_CEILING_DIRECTORIES": "/"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_nobodys_environment_or_configuration_changes_the_revision(tmp_path, monkeypatch, variables):
    other = tmp_path / "other"
    repository(other)
    for name in ("gitconfig", ".gitconfig"):
        (other / name).write_text(
            f"[status]\n showUntrackedFiles = no\n[core]\n worktree = {other}\n fsmonitor = false\n"
        )
    revision = repository(tmp_path / "project")
    (tmp_path / "project/isonb/new.py").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(other=other))
    assert provenance(tmp_path / "project", monkeypatch) == (revision, True)


def test_without_git_the_revision_is_unknown(tmp_path, monkeypatch):
    repository(tmp_path / "project")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(tmp_path / "project", monkeypatch) == (None, None)
