"""Compiled training beside the same uncompiled, in a process of its own: checked annotations cannot be traced.

Graphs are traced whole, but not handed to a compiler: a machine needs none. Each case prints one JSON line.
"""

import json
import math
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from tiny_runs import curve, made_images, pretrain, tiny_run, together, weights

from isonb.features import even_colours
from isonb.models import encodings, fixed, objectives
from isonb.models import network as networks
from isonb.training import ahead, checkpoint, train

ORIGINAL = torch.compile
KINDS = {  # each block, encoding and objective at least once
    "conv, continuous": {"block": "conv", "encoding": "continuous"},
    "mixer, rff": {"block": "mixer", "encoding": "rff"},
    "transformer, pix2vec": {"block": "transformer", "encoding": "pix2vec", "heads": 2},
    "conv, squared error": {"block": "conv", "encoding": "palette", "objective": "mse"},
    "mixer, causal": {"block": "mixer", "objective": "autoregressive"},
    "image-GPT": {"block": "image-gpt", "encoding": "palette", "objective": "autoregressive", "target": "palette"},
    "palette predicted": {"block": "transformer", "target": "palette"},
    "sub-pixels, learned token": {"mask_unit": "subpixel", "mask_fill": "learned", "positions": "learned"},
}
RUNS = {
    "whole batches": ({"block": "transformer", "encoding": "pix2vec"}, {}),
    "parts of a batch": ({"block": "mixer", "augmentation": "flip-crop"}, {"micro_batch": 2}),
    "hardly any mask": ({"mask_rate": 0.002, "batch_size": 2}, {}),  # some steps have nothing to learn from
}


def trace(work, **options):
    """Whole graphs of one shape, as the trainer asks for them, run by torch itself."""
    assert options == {"fullgraph": True, "dynamic": False}
    return ORIGINAL(work, backend="aot_eager", **options)


def apart(one, other):
    """The largest difference of two lists of tensors, relative to the largest number in the second."""
    pairs = list(zip(one, other, strict=True))
    return max(float((a - b).abs().max()) for a, b in pairs) / max(float(b.abs().max()) for _, b in pairs)


def kinds():
    """Loss and gradients of one batch of every kind of network, compiled and not, in float64."""
    images = made_images()
    pixels_BNC, index_B = images.train.pixels_BNC[:5], images.train.index_B[:5]
    for name, settings in KINDS.items():
        torch._dynamo.reset()
        run = tiny_run(**settings)
        network = networks.build_network(run, even_colours()).double()
        torch.nn.init.normal_(network.head.weight, std=0.1)
        loss = fixed.FixedLoss(network, 5)
        key = torch.tensor(objectives.mask_key(run, "training", 3))
        is_counted_B = torch.tensor([True, True, True, True, False])
        ours = loss(pixels_BNC, index_B, is_counted_B, key, "float64")
        ours.backward()
        found = [p.grad for p in network.parameters() if p.requires_grad]
        network.zero_grad()
        is_scored_BNS = objectives.sample_scored(run, index_B[:4], "training", 3)
        plain, _ = objectives.summed_loss(run, network, pixels_BNC[:4], is_scored_BNS, network.palette)
        plain.backward()
        expected = [p.grad for p in network.parameters() if p.requires_grad]
        tell(name, loss=abs(float((ours / plain).detach()) - 1), gradients=apart(found, expected))


def product():
    """The table's gradient by one product, as a GPU takes it, within a compiled graph; nothing is added row by row."""
    run = tiny_run(encoding="pix2vec")
    plain = pretrain(run, folder("plain"))
    encodings.multiplies, encodings.by_adding = lambda gradient_TD: True, None
    ours = pretrain(run, folder("compiled"), compile=True)
    tell("product", **difference(ours, plain))


def runs():
    """Whole runs, several steps at a time."""
    for name, (settings, execution) in RUNS.items():
        ours, plain = both(tiny_run(**settings), **execution)
        tell(name, **difference(ours, plain))
    fixed.DEVIATIONS = -1  # most batches have more positions than there is room for
    ours, plain = both(tiny_run())
    tell("too many for the graph", **difference(ours, plain))


def both(run, **execution):
    torch._dynamo.reset()
    return (pretrain(run, folder("a run"), compile=is_compiled, **execution) for is_compiled in (True, False))


def difference(ours, plain):
    losses = [
        abs(row["train_loss"] / expected["train_loss"] - 1)
        for row, expected in zip(curve(ours)[1:], curve(plain)[1:], strict=True)
    ]
    return {"losses": max(losses), "weights": apart(weights(ours).values(), weights(plain).values())}


def interruptions():
    """A request to stop in the middle of an epoch, and what goes on from there; every step is asked for by itself."""
    ahead.SECONDS = 0.0
    place = folder("interrupted")

    def on_step(step, steps, loss):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        pretrain(tiny_run(), place, on_step, compile=True)
    except KeyboardInterrupt as error:
        message = str(error)
    files = [path.name for path in place.iterdir()]
    resumed = pretrain(tiny_run(), place, compile=True)
    whole = pretrain(tiny_run(), folder("whole"), compile=True)
    ahead.SECONDS = 1e9  # as many at a time as an epoch has
    told = []
    at_once = pretrain(tiny_run(), folder("at once"), lambda *step: told.append(step[0]), compile=True)
    tell(
        "interrupted",
        message=message,
        files=files,
        same=[all(a.equal(b) for a, b in zip(weights(one).values(), weights(whole).values(), strict=True))
              for one in (resumed, at_once)],
        told=told,
    )  # fmt: skip


def divergence():
    """A gradient that is infinite in the fifth step while the host runs ahead, and a loss that is no number."""
    for what in ("gradient", "loss"):
        torch._dynamo.reset()
        ahead.SECONDS, place = 1e9, folder(what)
        sound = ahead.Steps._update

        def update(self, total, rate, what=what, sound=sound):
            if self.plan.epoch == 1 and int(self.number) == 1 and not self.is_broken:
                if what == "loss":
                    total = total * math.nan
                else:
                    next(iter(self.loss.network.parameters())).grad[:] = math.inf
            sound(self, total, rate)

        ahead.Steps._update = update
        try:
            pretrain(tiny_run(), place, compile=True, checkpoint_seconds=0)
        except train.TrainingError as error:
            message = str(error).replace(str(place), "FOLDER")
        ahead.Steps._update = sound
        kept = checkpoint.latest(place)
        saved = checkpoint.read(kept.read_bytes(), tiny_run(), place)
        finite = all(bool(tensor.isfinite().all()) for tensor in saved.tensors.values())
        resumed, whole = pretrain(tiny_run(), place, compile=True), pretrain(tiny_run(), folder("whole"), compile=True)
        same = all(a.equal(b) for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True))
        tell(what, message=message, finite=finite, same=same)


def broken():
    """Once a step was not finite, neither it nor those that follow change weights or Adam's state."""
    run, images = tiny_run(), made_images()
    network = networks.build_network(run).double()
    adam = torch.optim.AdamW(network.parameters(), fused=True)
    steps = ahead.Steps(run, images.train, network, adam, "float64", train.World(0, 1, torch.device("cpu")))
    steps.begin(0, 0)
    steps.launch()
    state = [x.clone() for x in (*network.parameters(), *(t for one in adam.state.values() for t in one.values()))]
    steps.is_broken.fill_(1.0)
    steps.launch()
    steps.launch()
    after = [*network.parameters(), *(t for one in adam.state.values() for t in one.values())]
    taken = steps.read()
    tell("broken", same=all(a.equal(b) for a, b in zip(state, after, strict=True)), told=[one.fault for one in taken])


def uncompiled():
    """Where there is no compiler the same steps are taken without, and a warning says so."""

    def fail(*arguments):
        raise RuntimeError("no compiler\nis installed")

    torch.compile = lambda work, **options: fail
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = pretrain(tiny_run(), folder("ours"), compile=True)
    tell(
        "uncompiled", warned=[str(one.message) for one in caught], **difference(ours, pretrain(tiny_run(), folder("b")))
    )


def many():
    """More networks and batches in one process than torch compiles of one function by itself, which are 8."""
    images, compiled = made_images(), []

    def count(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compile = lambda work, **options: ORIGINAL(work, backend=count, **options)
    network = networks.build_network(tiny_run(block="mixer"))
    key = torch.tensor(objectives.mask_key(network.config, "training", 0))
    for size in range(1, 11):
        counted_B = torch.ones(size, dtype=torch.bool)
        loss = fixed.FixedLoss(network, size)
        loss(images.train.pixels_BNC[:size], images.train.index_B[:size], counted_B, key, "float32")
    tell("many", graphs=len(compiled))


def rank_of(rank, meeting, place):
    torch.compile = trace
    one = pretrain(tiny_run(block="transformer"), place / str(rank), compile=True, micro_batch=(0, 1)[meeting])
    return [row["train_loss"] for row in curve(one)[1:]], [x.numpy() for x in weights(one).values()]


def processes():
    """Two processes, compiled, against one that is not; whole shares, then an image at a time."""
    plain = pretrain(tiny_run(block="transformer"), folder("plain"))
    expected = [row["train_loss"] for row in curve(plain)[1:]]
    for name, ranks in zip(("shares", "images"), together(2, rank_of, folder("two"), meetings=2), strict=True):
        losses = [abs(a / b - 1) for found, _ in ranks for a, b in zip(found, expected, strict=True)]
        found = [torch.from_numpy(x) for x in ranks[0][1]]
        tell(name, losses=max(losses), weights=apart(found, list(weights(plain).values())))


def folder(name):
    return Path(tempfile.mkdtemp(dir=sys.argv[2])) / name


def tell(case, **facts):
    print(json.dumps({"case": case} | facts), flush=True)


if __name__ == "__main__":
    torch.compile = trace
    globals()[sys.argv[1]]()
