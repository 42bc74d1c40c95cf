"""The command that probes a kept network: what it says before, the table, the same numbers as in a record, refusals."""

import re

import pytest
import torch
from some_images import image_gpt, keep, some_images

from isonb import places
from isonb.__main__ import main
from isonb.config import ProbeConfig
from isonb.models import network as networks
from isonb.running import probing
from isonb.training import checkpoint, data, probe, room

RUN = image_gpt(depth=3)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv(places.RUNS, str(tmp_path / "runs"))
    monkeypatch.setattr(data, "load", lambda *_: some_images())
    return keep(tmp_path, RUN)


def test_the_table_has_the_numbers_that_a_record_would_have(kept, capsys):
    assert main(["probe", str(kept), "probe_epochs=2", "precision=float32"]) == 0
    said = capsys.readouterr()
    network = checkpoint_network(kept)
    [judged] = probe.judge(network, some_images(), [ProbeConfig(epochs=2)], "float32")
    rows = [line.split() for line in said.out.splitlines()[1:5]]
    assert [float(row[3].rstrip("%")) for row in rows] == [
        pytest.approx(100 * layer.test_accuracy, abs=0.005) for layer in judged.probes.layers
    ]
    assert [row[0] for row in rows if row[-1] == "chosen"] == [str(judged.probes.best_layer)]
    assert re.search(
        "^4 layers of 8 features of some, of 70 training, 20 validation and 20 test images: 0.00 GiB of weights and "
        r"0.00 GiB of features in memory; one pass over the images takes about \d+\.\d minutes\.$",
        said.err,
        re.MULTILINE,
    )


def checkpoint_network(path):
    config, tensors = checkpoint.read_network(path)
    network = networks.IsotropicNetwork(config)
    network.load_state_dict(tensors)
    return network.eval()


def test_features_that_do_not_fit_are_said_to_lie_on_the_disk(kept, monkeypatch):
    unlimited = probing.probe(str(kept), {"probe_epochs": 2, "precision": "float32"}, lambda _: None)
    monkeypatch.setattr(room, "MEMORY", 2 * 70 * 8 * 4)  # two layers of the training images
    monkeypatch.setattr(probing, "GIBIBYTE", 1000)
    told = []
    assert probing.probe(str(kept), {"probe_epochs": 2, "precision": "float32"}, told.append) == unlimited
    # 4 layers x 8 numbers of 4 bytes: 8960 for training; 2560 each for the others; half of the former at a time
    assert "and 9.60 GiB of features in memory, and 9.0 GiB on the disk, read in 2 parts; one pass" in told[0]


def test_the_images_are_those_that_the_probe_names(kept, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda run, folder: asked.append((run, folder)) or some_images())
    settings = ["probe_data=stl10", "probe_fold=2", "data_folder=there", "probe_epochs=2", "precision=float32"]
    assert main(["probe", str(kept), *settings]) == 0
    [(run, folder)] = asked
    assert (run.data, run.fold, run.image_size, str(folder)) == ("stl10", 2, 8, "there")


@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_on_the_threads_that_are_asked_for(threads, kept, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(data, "load", lambda *_: seen.append(torch.get_num_threads()) or some_images())
    try:
        assert main(["probe", str(kept), "probe_epochs=1", f"threads={threads}"]) == 0
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["depth=3"], "'depth' says how a network is trained, and this one is: leave it out, or set what begins with"),
        (["processes=2"], "'processes' has no effect here: leave it out, or choose among device, threads, precision, "),
        (["micro_batch=2"], "'micro_batch' has no effect here"),
        (["probe_along=true"], "'probe_along' says how a network is trained, and this one is"),
        (["probe_pixels=true"], "'probe_pixels' says how a network is trained, and this one is"),
        (["probe_pooling=max"], "pooling='max' is not allowed: choose mean, grid4 or flatten."),
        (["device=cuda"], "device='cuda' is not allowed: PyTorch finds no such device here"),
        (["probe_epochs"], "'probe_epochs' is not a setting: write name=value, as in depth=3."),
        (["probe_epochs=2", "probe_epochs=3"], "'probe_epochs' is given twice: remove one of the two."),
    ],
)
def test_a_setting_that_is_not_the_probes_is_refused_in_a_sentence(settings, sentence, kept, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["probe", str(kept), *settings]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_a_file_that_keeps_no_network_is_told(kept, capsys):
    kept.write_bytes(b"nothing")
    assert main(["probe", str(kept)]) == 1
    assert "is no network that isonb has kept, or it is damaged" in capsys.readouterr().err
