"""`make gpu`: what a GPU must get right, and then how fast it trains, in under four minutes.

First come checks, each with what was found and the bound that it keeps: masks, losses of every way to take a step, a
resumed run, a forced divergence, memory that is full. Then every network at three depths, the most telling first, as
long as there is time: what was not reached has no row. `--device cpu` goes through all of it on tiny networks.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import image_gpt, mixer
from plain import PlainNetwork, masked_loss
from torch import nn
from torch.nn import functional as F

from isonb import draws
from isonb.config import Execution, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import ahead, data, evaluate, train

SECONDS = 210  # after which no further network is begun
STEPS = 60
BOUNDS = {"compiled": 0.05, "not recorded": 0.05, "float32": 0.1}  # nats from the step by step one, over all steps
NETWORKS = ({"block": "conv"}, {"block": "mixer"}, {"block": "transformer"}, {"block": "transformer", "heads": 4})
TINY = {"image_size": 8, "width": 8, "batch_size": 8}


def run(device: str = "cuda") -> Iterator[dict[str, Any]]:
    """Checks, then speeds; one sentence where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        yield {"skipped": "make gpu: there is no GPU here that PyTorch can use, so nothing was checked or measured."}
        return
    began, on = time.perf_counter(), torch.device(device)
    settings = {"encoding": "pix2vec"} | (TINY if device == "cpu" else {})
    steps = STEPS if device == "cuda" else 4
    images = noise(RunConfig(**settings), steps)
    yield {"name": torch.cuda.get_device_name(on) if device == "cuda" else "CPU", "rate": rate(on)}
    yield from checks(settings, images, on, steps)
    for depth in (1, 6, 3) if device == "cuda" else (1,):
        for network in NETWORKS:
            if time.perf_counter() - began < SECONDS:
                yield speeds(RunConfig(**settings, **network, depth=depth), images, on)


def noise(config: RunConfig, steps: int) -> data.Images:
    """Images without a meaning, enough for an epoch of so many steps; the first few are those of validation."""
    generator = torch.Generator().manual_seed(0)
    count = steps * config.batch_size
    pixels_BNC = torch.randint(0, 256, (count, config.image_size**2, 3), generator=generator, dtype=torch.uint8)
    whole = data.Split(pixels_BNC, torch.arange(count) % 10, torch.arange(count))
    few = data.Split(*(x[: config.batch_size] for x in (whole.pixels_BNC, whole.labels_B, whole.index_B)))
    return data.Images("noise", tuple("0123456789"), config.image_size, whole, few, few, {})


def checks(settings: dict[str, Any], images: data.Images, on: torch.device, steps: int) -> Iterator[dict[str, Any]]:
    """One row for each check: what was found, its bound, and whether it holds."""
    index_B = images.train.index_B[:256]
    config = RunConfig(**settings, epochs=1, learning_rate=0.003)
    units = np.arange(config.image_size**2)
    expected = draws.uniform(config.seed, "training masks", 5, index_B.numpy()[:, None], units) < config.mask_rate
    drawn = objectives.sample_masks(config, index_B.to(on), "training", 5)[:, :, 0].cpu().numpy()
    yield check("mask bits that differ", int((drawn != expected).sum()), 0)
    for network in NETWORKS:
        one = config.model_copy(update=network | {"positions": RunConfig(block=network["block"]).positions})
        losses = {name: losses_of(one, images, on, **how) for name, how in ways(on).items()}
        for name, bound in BOUNDS.items():
            apart = float(np.abs(np.subtract(losses[name], losses["step by step"])).max())
            yield check(f"{one.network}, {steps} steps {name}: nats apart", apart, bound)
    yield check("a resumed run: nats apart at its end", resumed(config, images, on, steps), 0.05)
    yield check("words of a divergence that are missing", diverged(config, images, on), 0)
    if on.type == "cuda":
        yield check("words of a full memory that are missing", full(config, images, on), 0)


def check(name: str, found: float, bound: float) -> dict[str, Any]:
    """A check holds where what was found does not exceed its bound."""
    return {"check": name, "found": found, "bound": bound, "holds": bool(found <= bound)}


def ways(on: torch.device) -> dict[str, dict[str, Any]]:
    """The ways to take a step, by name."""
    return {
        "step by step": {"compile": False},
        "compiled": {"compile": True},
        "not recorded": {"compile": True, "is_recorded": False},
        "float32": {"compile": True, "precision": "float32"},
    }


def losses_of(config: RunConfig, images: data.Images, on: torch.device, **how: Any) -> list[float]:
    """The mean loss of each step of one epoch."""
    found: list[float] = []
    if how.pop("compile") is False:
        execution = Execution(device=on.type, compile=False, checkpoint_seconds=1e9)
        with tempfile.TemporaryDirectory() as folder:
            train.pretrain(config, images, Path(folder), execution, lambda *step: found.append(step[2]))
        return found
    steps = steps_of(config, images, on, **how)
    for _ in range(steps.steps_per_epoch):
        steps.launch()
    return [one.loss / one.count for one in steps.read()]


def steps_of(
    config: RunConfig, images: data.Images, on: torch.device, precision: str = "auto", is_recorded: bool = True
) -> ahead.Steps:
    """The compiled steps of a fresh network, at the beginning of its first epoch."""
    torch._dynamo.reset()
    precision = evaluate.resolve_precision(Execution(precision=precision), on)
    network = networks.build_network(config).to(on)
    betas = (config.adam_beta1, config.adam_beta2)
    adam = torch.optim.AdamW(network.parameters(), betas=betas, eps=config.adam_eps, weight_decay=0.0, fused=True)
    world = train.World(0, 1, on)
    steps = ahead.Steps(config, images.train, network, adam, precision, world, is_recorded=is_recorded)
    steps.begin(0, 0)
    return steps


def resumed(config: RunConfig, images: data.Images, on: torch.device, steps: int) -> float:
    """How far the validation loss of a run that stopped in the middle is from that of one that did not."""
    execution = Execution(device=on.type, compile=True, checkpoint_seconds=0)

    def stop(step: int, *_: float) -> None:
        if step >= steps // 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        whole = train.pretrain(config, images, Path(folder) / "whole", execution)
        try:
            train.pretrain(config, images, Path(folder) / "cut", execution, stop)
        except KeyboardInterrupt:
            cut = train.pretrain(config, images, Path(folder) / "cut", execution)
    return abs(cut.progress.curve[-1].validation_loss - whole.progress.curve[-1].validation_loss)


def diverged(config: RunConfig, images: data.Images, on: torch.device) -> int:
    """A weight that is no number from the third step on: how many of the words that must be told are not."""
    sound, seen = ahead.Steps.launch, []

    def launch(steps: ahead.Steps) -> None:
        if steps.launched == 2 and not seen:
            seen.append(True)
            with torch.no_grad():
                next(iter(steps.loss.network.parameters())).fill_(torch.nan)
        sound(steps)

    ahead.Steps.launch = launch
    try:
        message = message_of(config, images, Execution(device=on.type, compile=True))
    finally:
        ahead.Steps.launch = sound
    return sum(words not in message for words in ("not finite at step 2 ", "learning rate", "checkpoint"))


def full(config: RunConfig, images: data.Images, on: torch.device) -> int:
    """A network that needs more memory than this process is left: how many of the words that must be told are not."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(on).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(on) + 2**28) / total, on)
    try:
        message = message_of(config, images, Execution(device=on.type, compile=False))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, on)
    return sum(words not in message for words in ("memory of", "micro_batch"))


def message_of(config: RunConfig, images: data.Images, execution: Execution) -> str:
    """What ends a training."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            train.pretrain(config, images, Path(folder), execution)
        except train.TrainingError as error:
            return str(error)
    return ""


def speeds(config: RunConfig, images: data.Images, on: torch.device) -> dict[str, Any]:
    """Images a second of the trainer in its ways, of the plain form and of other libraries; and its peak memory."""
    per_second, peak = {}, None
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on)
    started = time.perf_counter()
    steps = steps_of(config, images, on)
    first_step = time.perf_counter() - started
    per_second["ours"] = ours(steps, config)
    if on.type == "cuda":
        peak = torch.cuda.max_memory_allocated(on)
    others = {"step by step": step_by_step(config, images, on), **others_of(config, images, on)}
    for name, take in others.items():
        per_second[name] = config.batch_size / timed(take, on)
    operations = 6 * networks.multiply_accumulates(config)  # forward and twice as much backward, two of each product
    return {
        "network": config.network,
        "depth": config.depth,
        "batch": config.batch_size,
        "images_per_second": per_second,
        "operations_per_second": operations * per_second["ours"],
        "first_step_seconds": first_step,
        "peak_bytes": peak,
    }


def ours(steps: ahead.Steps, config: RunConfig, rounds: int = 5) -> float:
    """The median over some rounds of steps that are launched together and read once."""
    each, seconds = max(steps.steps_per_epoch // (rounds + 1), 1), []
    for number in range(rounds + 1):
        steps.begin(number, 0)
        started = time.perf_counter()
        for _ in range(each):
            steps.launch()
        steps.read()
        seconds.append((time.perf_counter() - started) / each)
    return config.batch_size / statistics.median(seconds[1:])


def step_by_step(config: RunConfig, images: data.Images, on: torch.device) -> Callable[[], None]:
    """The trainer's step without compiling, which the host waits for."""
    execution = Execution(device=on.type, compile=False, checkpoint_seconds=1e9)
    one = train._Run(config, images, Path(tempfile.gettempdir()) / "isonb-gpu", execution, train.World(0, 1, on))
    batches = data.epoch_order(len(images.train), seed=config.seed, epoch=0).split(config.batch_size)
    stop = train.threading.Event()
    return lambda: one._step(0, batches[one.progress.step % (len(batches) - 1)], stop)


def others_of(config: RunConfig, images: data.Images, on: torch.device) -> dict[str, Callable[[], None]]:
    """The plain form, and the library with a network of this kind where it is installed, each eager and compiled."""
    pixels_BNC = images.train.pixels_BNC[: config.batch_size].to(on)
    is_masked_BN = objectives.sample_masks(config, images.train.index_B[: config.batch_size].to(on), "training")[..., 0]
    simple = networks.build_network(config.model_copy(update={"encoding": "continuous"})).to(on)
    found = {"plain": taking(PlainNetwork(simple), lambda net: masked_loss(net, pixels_BNC, is_masked_BN), on)}
    try:
        if config.block == "transformer":
            colour_BN = torch.randint(512, is_masked_BN.shape, device=on)
            for name, wrap in (("ImageGPT", None), ("ImageGPT compiled", torch.compile)):
                peer = image_gpt(config).to(on)
                peer = wrap(peer) if wrap else peer
                found[name] = taking(peer, lambda net: net(colour_BN, labels=colour_BN).loss, on)
        elif config.block == "mixer" and config.image_size**2 % config.width == 0:
            image_BCHW = pixels_BNC.float().mT.unflatten(2, (config.image_size, config.image_size)) / 127.5 - 1
            for name, wrap in (("mlp-mixer-pytorch", None), ("mlp-mixer-pytorch compiled", torch.compile)):
                peer = mixer(config).to(on)
                peer = wrap(peer) if wrap else peer
                found[name] = taking(peer, lambda net: _all_values(net(image_BCHW), pixels_BNC), on)
    except ImportError:
        pass  # the library is not installed, and has no column
    return found


def _all_values(logits: torch.Tensor, pixels_BNC: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.view(-1, 256).float(), pixels_BNC.long().flatten())


def taking(network: nn.Module, loss: Callable[[nn.Module], torch.Tensor], on: torch.device) -> Callable[[], None]:
    """A step in the trainer's precision, with its optimiser, and without waiting."""
    adam = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    precision = evaluate.resolve_precision(Execution(), on)

    def step() -> None:
        with evaluate.autocast(on, precision):
            nats = loss(network)
        nats.backward()
        adam.step()
        adam.zero_grad()

    return step


def timed(take: Callable[[], Any], on: torch.device, rounds: int = 5, each: int = 3) -> float:
    """Seconds a step, the median over some rounds after one to warm up."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for _ in range(each):
            take()
        if on.type == "cuda":
            torch.cuda.synchronize(on)
        seconds.append((time.perf_counter() - started) / each)
    return statistics.median(seconds[1:])


def rate(on: torch.device, size: int = 8192) -> float:
    """Floating-point operations a second of a large product in the trainer's precision, the best of some."""
    precision = evaluate.resolve_precision(Execution(), on)
    size = size if on.type == "cuda" else 256
    x = torch.randn(size, size, device=on).to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    return 2 * size**3 / min(timed(lambda: torch.mm(x, x), on, rounds=1, each=8) for _ in range(4))
