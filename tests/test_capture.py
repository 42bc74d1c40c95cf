"""Recorded steps, on a CPU by a stand-in for CUDA graphs (`recorded`): the same runs, whatever happens in between."""

import contextlib
import os
import signal
import warnings

import pytest
import recorded
import torch
from tiny_runs import PROCESSES, assert_same_bits, curve, made_images, pretrain, tiny_run, weights
from torch import nn

from isonb.config import Execution, ProbeConfig
from isonb.models import fixed
from isonb.models import network as networks
from isonb.training import ahead, capture, checkpoint, classifiers, train

CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch):
    return recorded.on_cpu(monkeypatch)


def assert_close(ours, plain):
    for name in ("train_loss", "validation_loss"):
        found, expected = ([row[name] for row in curve(one)[1:]] for one in (ours, plain))
        assert found == pytest.approx(expected, rel=1e-9)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(ours)[name], tensor, rtol=0, atol=1e-9)


def test_the_stand_in_repeats_without_python_in_the_same_memory():
    number, table, calls = torch.zeros(1, dtype=torch.int64), torch.arange(6.0), []

    def work():
        calls.append(1)
        table.mul_(2)
        number.add_(table.index_select(0, number).long())

    graph = recorded.Graph()
    with recorded._record(graph):
        work()
    assert (table.tolist(), number.item()) == ([0, 1, 2, 3, 4, 5], 0)  # nothing has been done yet
    number.fill_(1)
    graph.replay()
    assert (table.tolist(), number.item(), len(calls)) == ([0, 2, 4, 6, 8, 10], 3, 1)
    graph.replay()
    assert (table.tolist(), number.item(), len(calls)) == ([0, 4, 8, 12, 16, 20], 15, 1)


@pytest.mark.parametrize(
    "work",
    [lambda x: x.item(), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: torch.tensor(1.0) + x, bool],
    ids=["item", "mask", "nonzero", "from the host", "bool"],
)
def test_the_stand_in_refuses_what_waits(work):
    with pytest.raises(recorded.NotRecordable), recorded._record(recorded.Graph()):
        work(torch.ones(()) if work is bool else torch.ones(1))


@pytest.mark.parametrize(
    ("settings", "execution"),
    [
        ({"block": "conv", "encoding": "pix2vec"}, {}),
        ({"block": "mixer", "encoding": "rff", "augmentation": "flip-crop"}, {"micro_batch": 2}),
        ({"block": "transformer", "mask_unit": "subpixel", "mask_fill": "learned"}, {}),
        ({"block": "mixer", "objective": "autoregressive"}, {}),
        ({"block": "transformer", "objective": "mse"}, {}),
        ({"batch_size": 2, "mask_rate": 0.002}, {}),
        ({"batch_size": 13}, {}),
    ],
    ids=["conv", "in parts", "sub-pixels", "causal", "squared error", "hardly any mask", "one step an epoch"],
)
def test_a_recorded_run_is_the_same_run(settings, execution, graphs, tmp_path):
    run = tiny_run(**settings)
    ours = pretrain(run, tmp_path / "ours", compile=True, **execution)
    [graph] = graphs()
    assert 0 < graph.replays <= run.epochs * -(-13 // run.batch_size)  # steps with nothing to learn are left out
    assert_close(ours, pretrain(run, tmp_path / "plain", **execution))


def test_a_batch_that_does_not_fit_the_recording_is_taken_by_itself(graphs, monkeypatch, tmp_path):
    monkeypatch.setattr(fixed, "MULTIPLE", 1)
    monkeypatch.setattr(fixed, "DEVIATIONS", 0)  # so that about half of the batches have too many positions
    ours = pretrain(tiny_run(epochs=3), tmp_path / "ours", compile=True)
    assert 0 < graphs()[0].replays < 9
    assert_close(ours, pretrain(tiny_run(epochs=3), tmp_path / "plain"))


def test_a_recorded_run_stops_at_any_step_and_goes_on_with_the_same_bits(graphs, monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "SECONDS", 0.0)  # every step is looked at

    def on_step(step, steps, loss):
        if step in (2, 4):
            os.kill(os.getpid(), signal.SIGTERM)

    for after in (3, 5):
        with pytest.raises(KeyboardInterrupt, match=f"Stopped after step {after} of 6"):
            pretrain(tiny_run(), tmp_path / "cut", on_step, compile=True)
    cut = pretrain(tiny_run(), tmp_path / "cut", compile=True)
    assert len(graphs()) == 3  # each process records anew, what was loaded included
    assert_same_bits(cut, pretrain(tiny_run(), tmp_path / "whole", compile=True))


def train_and_die(folder, seconds, last):
    """SIGKILL when a step is told, before it is saved; steps are looked at so often."""
    recorded.on_cpu(pytest.MonkeyPatch())
    ahead.SECONDS = seconds
    pretrain(
        tiny_run(),
        folder,
        lambda step, *_: step < last or os.kill(os.getpid(), signal.SIGKILL),
        compile=True,
        checkpoint_seconds=0,
    )


# The server that processes are forked from may have been ended by another test, with its tracker
@pytest.mark.filterwarnings("ignore:resource_tracker")
@pytest.mark.parametrize(("seconds", "kept"), [(0.0, 5), (1e9, 4)], ids=["each looked at", "several at a time"])
def test_a_killed_run_loses_the_steps_since_the_last_look_and_no_other(seconds, kept, graphs, tmp_path):
    process = PROCESSES.Process(target=train_and_die, args=(tmp_path / "killed", seconds, 6))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert checkpoint.latest(tmp_path / "killed").name == f"step-{kept:08d}.safetensors"
    resumed = pretrain(tiny_run(), tmp_path / "killed", compile=True)
    assert_same_bits(resumed, pretrain(tiny_run(), tmp_path / "whole", compile=True))


def test_what_a_recording_works_on_stays_where_it_is(graphs, tmp_path):
    """Through epochs, evaluations, checkpoints and a batch that is taken by itself."""
    run, images = tiny_run(), made_images()
    one = train._Run(run, images, tmp_path, Execution(device="cpu", compile=True), train.World(0, 1, CPU))
    places = []
    for epoch in range(3):
        one.ahead.begin(epoch, 0)
        one.ahead.launch()
        one.ahead._take(is_compiled=False)
        one.ahead.launched += 1
        one.ahead.read()
        one._close_epoch(0)
        one._save()
        state = [x for state in one.adam.state.values() for x in state.values()]
        own = [x for x in vars(one.ahead).values() if isinstance(x, torch.Tensor)]
        places.append([x.data_ptr() for x in (*one.network.parameters(), *one.network.buffers(), *state, *own)])
        assert all(p.grad is None for p in one.network.parameters())
    assert places[0] == places[1] == places[2] and len(graphs()) == 1


def test_nothing_is_waited_for_until_steps_are_read(graphs, monkeypatch):
    """Not for images that have no room on the device either, which are copied batch by batch."""
    monkeypatch.setattr(ahead.Steps, "_fits_on_device", lambda steps: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    run, images = tiny_run(augmentation="flip-crop"), made_images()
    network = networks.build_network(run).double()
    adam = torch.optim.AdamW(network.parameters(), fused=True)
    steps = ahead.Steps(run, images.train, network, adam, "float64", train.World(0, 1, CPU), micro_batch=2)
    steps.begin(0, 0)

    def wait(*_):
        raise AssertionError("the host waits")

    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "nonzero"):
            patched.setattr(torch.Tensor, name, wait)
        for _ in range(3):
            steps.launch()
    assert graphs()[0].replays == 3
    assert [one.fault for one in steps.read()] == [None] * 3


def test_images_that_stay_on_the_host_make_no_difference(graphs, monkeypatch, tmp_path):
    plain = pretrain(tiny_run(), tmp_path / "plain")
    monkeypatch.setattr(ahead.Steps, "_fits_on_device", lambda steps: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    assert_close(pretrain(tiny_run(), tmp_path / "ours", compile=True), plain)


def test_what_is_not_finite_ends_a_recorded_run_at_its_step(graphs, monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "SECONDS", 1e9)
    sound = ahead.Steps.launch

    def launch(steps):
        if (steps.plan.epoch, steps.launched) == (1, 1):
            nn.init.constant_(next(iter(steps.loss.network.parameters())), torch.nan)
        sound(steps)

    monkeypatch.setattr(ahead.Steps, "launch", launch)
    with pytest.raises(train.TrainingError, match=r"The loss is not finite at step 4 with learning rate 0\.0075"):
        pretrain(tiny_run(), tmp_path, compile=True, checkpoint_seconds=0)
    saved = checkpoint.read(checkpoint.latest(tmp_path).read_bytes(), tiny_run(), tmp_path)
    assert saved.progress.step == 4 and all(bool(x.isfinite().all()) for x in saved.tensors.values())


def test_what_cannot_be_recorded_is_taken_step_by_step_with_a_warning(graphs, monkeypatch, tmp_path):
    sound = ahead.Steps._move_on

    def move_on(steps):
        steps.number.item()
        sound(steps)

    monkeypatch.setattr(ahead.Steps, "_move_on", move_on)
    with pytest.warns(UserWarning, match="Steps are not recorded on this GPU, and slower: operation not permitted"):
        ours = pretrain(tiny_run(), tmp_path / "ours", compile=True)
    assert_close(ours, pretrain(tiny_run(), tmp_path / "plain"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["torch", "cuDNN", "cuBLAS", "Triton"],
)
def test_a_full_memory_is_no_reason_to_go_on_without_a_recording(error, graphs, monkeypatch, tmp_path):
    def fail(*_):
        raise error

    monkeypatch.setattr(ahead.Steps, "_update", fail)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a small GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))
    world = train.World(0, 1, _Device("cpu"))
    monkeypatch.setattr(train, "join_world", lambda execution: contextlib.nullcontext(world))
    with warnings.catch_warnings(), pytest.raises(train.TrainingError) as told:
        warnings.simplefilter("error")
        pretrain(tiny_run(), tmp_path, compile=True)
    assert str(told.value) == (
        "The memory of a small GPU is full: set micro_batch to fewer images than 5, or leave the GPU to this run alone."
    )


class _Device(str):
    """The CPU, which passes for a GPU where its kind is asked for."""

    type = "cuda"


@pytest.mark.parametrize("images", [20, 24, 7], ids=["a short last batch", "whole batches", "less than a batch"])
def test_recorded_probes_learn_the_same(images, graphs, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x_LBF = torch.randn(2, images, 5, generator=generator, dtype=torch.float64)
    label_B = torch.randint(3, (images,), generator=generator)
    config = ProbeConfig(batch_size=8, epochs=3)
    ours = classifiers.by_adam(x_LBF, label_B, 3, config, 0, (0.0, 0.1))
    assert [graph.replays for graph in graphs()] == ([3 * (images // 8)] if images >= 8 else [])
    monkeypatch.setattr(capture, "is_possible", lambda device: False)
    plain = classifiers.by_adam(x_LBF, label_B, 3, config, 0, (0.0, 0.1))
    for found, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
