"""The command that fine-tunes a kept network: the same numbers as in a record, what it says before, and refusals."""

import re

import numpy as np
import pytest
import torch
from some_images import image_gpt, keep, some_images

import isonb
from isonb import places
from isonb.__main__ import main
from isonb.config import Cell, FinetuneConfig
from isonb.training import checkpoint, data, finetune
from isonb.training.train import Pretrained

RUN = image_gpt(depth=2)
TWO_EPOCHS = ["finetune_epochs=2", "finetune_batch_size=16", "finetune_augmentation=none", "precision=float32"]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv(places.RUNS, str(tmp_path / "runs"))
    monkeypatch.setattr(data, "load", lambda *_: some_images())
    return keep(tmp_path, RUN)


def test_the_numbers_are_those_that_a_record_would_have_and_the_weights_stay(kept, capsys):
    before = kept.read_bytes()
    assert main(["finetune", str(kept), *TWO_EPOCHS]) == 0
    said = capsys.readouterr()
    cell = Cell(run=RUN, finetune=FinetuneConfig(epochs=2, batch_size=16, augmentation="none"))
    progress = checkpoint.Progress(precision="float32")
    record = finetune.tune(cell, some_images(), Pretrained(isonb.load(kept), progress, torch.device("cpu"))).record
    assert said.out == (
        f"Fine-tuned, the network gets {record.accuracy:.2%} of the 20 test images of some right (epoch "
        f"{record.epoch}), and its twin from scratch {record.scratch_accuracy:.2%} (epoch {record.scratch_epoch}): "
        f"{record.protocol}.\n"
    )
    assert re.search(
        r"^2 epochs of 70 training images of some, with the weights that are kept and from scratch, with 20 to "
        r"validate and 20 to test on: about \d+\.\d minutes\.$",
        said.err,
        re.MULTILINE,
    )
    assert kept.read_bytes() == before


def test_the_images_are_those_that_fine_tuning_names(kept, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda run, folder: asked.append((run, folder)) or some_images())
    assert (
        main(["finetune", str(kept), "finetune_data=stl10", "finetune_classes=5-9", "data_folder=x", *TWO_EPOCHS]) == 0
    )
    [(run, folder)] = asked
    assert (run.data, run.classes, run.image_size, str(folder)) == ("stl10", "5-9", 8, "x")


@pytest.mark.parametrize(
    ("settings", "status", "sentence"),
    [
        ([], 2, "Without epochs nothing is trained: set finetune_epochs, to 10 for example."),
        (["finetune_epochs=-1"], 2, "epochs=-1 is not allowed: it must be greater than or equal to 0."),
        (["finetune_data=cifar10"], 2, "data='cifar10' has no effect with epochs=0: set the epochs, too."),
        (
            ["finetune_epochs=1", "compile=true"],
            2,
            "'compile' has no effect here: leave it out, or choose among device",
        ),
        (["finetune_epochs=1", "depth=3"], 2, "'depth' says how a network is trained, and this one is: leave it out"),
        (["finetune_epochs=1", "probe_data=stl10"], 2, "'probe_data' says how a network is trained, and this one is"),
        (["finetune_epochs=1", "finetune_data=mnist"], 2, "data='mnist' is not allowed: choose "),
        (["finetune_epochs=1", "device=cuda"], 2, "device='cuda' is not allowed: PyTorch finds no such device here"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(settings, status, sentence, kept, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["finetune", str(kept), *settings]) == status
    said = capsys.readouterr()
    assert said.err.startswith(sentence) and said.err.count("\n") == 1 and said.out == ""


def test_a_loss_that_is_not_finite_and_a_file_that_keeps_no_network_are_told(kept, capsys, monkeypatch):
    monkeypatch.setattr(finetune._Tuning, "losses", lambda *_: (torch.tensor(np.nan, requires_grad=True), 0.0))
    assert main(["finetune", str(kept), *TWO_EPOCHS]) == 1
    assert "lower finetune_learning_rate." in capsys.readouterr().err.splitlines()[-1]
    kept.write_bytes(b"nothing")
    assert main(["finetune", str(kept), *TWO_EPOCHS]) == 1
    assert "is no network that isonb has kept, or it is damaged" in capsys.readouterr().err
