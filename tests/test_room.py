"""Room for features: the same probes from memory and from a file, layers in groups, and nothing left behind."""

import shutil

import pytest
import torch
from some_images import some_images

from isonb import places
from isonb.config import ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.training import probe, room

RUN = RunConfig(block="transformer", depth=4, width=8, image_size=8)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv(places.RUNS, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("at_once", [1, 2])
def test_probes_whose_features_do_not_fit_into_memory_are_the_same(at_once, solver, runs, monkeypatch):
    network, images = networks.build_network(RUN).eval(), some_images()
    config = ProbeConfig(solver=solver, **({"epochs": 3} if solver == "adam" else {}))
    [expected] = probe.judge(network, images, [config], "float32")
    monkeypatch.setattr(room, "MEMORY", at_once * 70 * 8 * 4)  # of so many layers of the training images
    [judged] = probe.judge(network, images, [config], "float32")
    for before, after in zip(expected.probes.layers, judged.probes.layers, strict=True):
        assert after == before
    assert (judged.test_correct_LB == expected.test_correct_LB).all()
    assert [*(runs / "features").iterdir()] == []


def test_a_file_is_as_good_as_memory_and_is_gone_at_once(runs, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", 0)
    numbers = room.of(2, 3, 5, torch.float64)
    assert numbers.shape == (2, 3, 5) and numbers.dtype == torch.float64
    numbers[:] = torch.arange(30.0).view(2, 3, 5)
    assert torch.equal(numbers.flatten(), torch.arange(30, dtype=torch.float64))
    assert [*(runs / "features").iterdir()] == []


def test_a_disk_without_room_is_told_before_the_images_are_looked_at(runs, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", 10 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40, 2**30))
    with pytest.raises(room.NoRoomError) as refusal:
        room.of(49, 45_000, 1536, torch.float32)
    assert str(refusal.value) == (
        f"The features of 49 layers take 12.6 GiB, more than memory is to hold, and {runs / 'features'} has room for "
        "1.0 GiB: make room there, set ISONB_RUNS to another folder, or choose probe_pooling='mean' or a smaller "
        "data_fraction."
    )


@pytest.mark.parametrize(
    ("layers", "memory", "expected"),
    [
        (5, 50, [(0, 5)]),
        (5, 49, [(0, 3), (3, 5)]),
        (5, 29, [(0, 2), (2, 4), (4, 5)]),
        (2, 1, [(0, 1), (1, 2)]),
    ],
)
def test_layers_come_in_as_few_even_groups_as_fit(layers, memory, expected, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", memory)
    assert [(group.start, group.stop) for group in room.groups(layers, 10)] == expected
