"""`make gpu`: what a GPU must get right and how fast it trains, in under four minutes.

Each network is timed at depth 1, and its losses are compared in every way to take a step; then come masks, a resumed
run, a forced divergence and memory that is full. A check is what was found and the bound that it keeps; an error is a
check that fails, and ends nothing. Deeper networks follow as long as there is time: what was not reached has no row.
What is compiled is kept, so that a second run reaches more. `--device cpu` goes through all of it on tiny networks.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
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
AMPLE = 60  # seconds that are left where other libraries' deeper networks are compiled, too
STEPS = 60
WAYS = {  # to take a step, and by how many nats its losses may differ from those step by step
    "compiled": ({}, 0.05),
    "not recorded": ({"is_recorded": False}, 0.05),
    "in float32, step by step": ({"compile": False, "precision": "float32"}, 0.1),
}
NETWORKS = ({"block": "conv"}, {"block": "mixer"}, {"block": "transformer"}, {"block": "transformer", "heads": 4})
TINY = {"image_size": 8, "width": 8, "batch_size": 8}


def run(device: str = "cuda", seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Checks and speeds; one sentence where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        yield {"skipped": "make gpu: there is no GPU here that PyTorch can use, so nothing was checked or measured."}
        return
    torch.backends.cudnn.allow_tf32 = False  # as for a cell
    ends, on, is_gpu = time.perf_counter() + seconds, torch.device(device), device == "cuda"
    settings = {"encoding": "pix2vec", "epochs": 1, "learning_rate": 0.003} | ({} if is_gpu else TINY)
    config, steps = RunConfig(**settings), STEPS if is_gpu else 4
    images = noise(config, steps)
    yield {"name": torch.cuda.get_device_name(on) if is_gpu else "CPU", "rate": rate(on)}
    for network in NETWORKS:
        one = RunConfig(**settings, **network)
        yield from safely(f"{one.network}, speeds", lambda one=one: [speeds(one, images, on)])
        yield from safely(f"{one.network}, losses", lambda one=one: losses(one, images, on, steps))
    yield from safely("masks", lambda: [check("mask bits that differ", masks(config, images, on), 0)])
    for name, find, bound in (
        ("a resumed run: nats apart at its end", resumed, 0.05),
        ("words of a divergence that are missing", diverged, 0),
        ("words of a full memory that are missing", full, 0),
    ):
        if is_gpu or find is not full:
            yield from safely(name, lambda of=(name, find, bound): [check(of[0], of[1](config, images, on), of[2])])
    for depth in (6, 3) if is_gpu else ():
        for network in NETWORKS:
            if (left := ends - time.perf_counter()) > 0:
                one = RunConfig(**settings, **network, depth=depth)
                how = {"compiles_others": left > AMPLE}
                yield from safely(
                    f"{one.network}, depth {depth}", lambda one=one, how=how: [speeds(one, images, on, **how)]
                )


def safely(name: str, rows: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows, and a check that fails where an error ends them."""
    try:
        yield from rows()
    except Exception:
        traceback.print_exc()
        yield check(f"{name}: errors", 1, 0)


def noise(config: RunConfig, steps: int) -> data.Images:
    """Images without a meaning, enough for an epoch of so many steps; the first few are those of validation."""
    generator = torch.Generator().manual_seed(0)
    count = steps * config.batch_size
    pixels_BNC = torch.randint(0, 256, (count, config.image_size**2, 3), generator=generator, dtype=torch.uint8)
    whole = data.Split(pixels_BNC, torch.arange(count) % 10, torch.arange(count))
    few = data.Split(*(x[: config.batch_size] for x in (whole.pixels_BNC, whole.labels_B, whole.index_B)))
    return data.Images("noise", tuple("0123456789"), config.image_size, whole, few, few, {})


def masks(config: RunConfig, images: data.Images, on: torch.device) -> int:
    """How many bits of some masks are not those that the CPU draws."""
    index_B, units = images.train.index_B[:256], np.arange(config.image_size**2)
    expected = draws.uniform(config.seed, "training masks", 5, index_B.numpy()[:, None], units) < config.mask_rate
    drawn = objectives.sample_masks(config, index_B.to(on), "training", 5)[:, :, 0].cpu().numpy()
    return int((drawn != expected).sum())


def losses(config: RunConfig, images: data.Images, on: torch.device, steps: int) -> Iterator[dict[str, Any]]:
    """One check for each way to take a step, and one for what torch or the trainer has warned of meanwhile."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plain = losses_of(config, images, on, compile=False)
        found = [losses_of(config, images, on, **how) for how, _ in WAYS.values()]
    for (name, (_, bound)), ours in zip(WAYS.items(), found, strict=True):
        apart = float(np.abs(np.subtract(ours, plain)).max())
        yield check(f"{config.network}, {steps} steps {name}: nats apart", apart, bound)
    for one in told:
        print(f"{config.network}: {one.message}", file=sys.stderr)
    yield check(f"{config.network}: warnings", len(told), 0)


def check(name: str, found: float, bound: float) -> dict[str, Any]:
    """A check holds where what was found does not exceed its bound."""
    return {"check": name, "found": found, "bound": bound, "holds": bool(found <= bound)}


def losses_of(
    config: RunConfig, images: data.Images, on: torch.device, compile: bool = True, **how: Any
) -> list[float]:
    """The mean loss of each step of one epoch."""
    found: list[float] = []
    if not compile:
        execution = Execution(device=on.type, compile=False, checkpoint_seconds=1e9, **how)
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
    precision = evaluate.resolve_precision(Execution(precision=precision), on)
    network = networks.build_network(config).to(on)
    betas = (config.adam_beta1, config.adam_beta2)
    adam = torch.optim.AdamW(network.parameters(), betas=betas, eps=config.adam_eps, weight_decay=0.0, fused=True)
    world = train.World(0, 1, on)
    steps = ahead.Steps(config, images.train, network, adam, precision, world, is_recorded=is_recorded)
    steps.begin(0, 0)
    return steps


def resumed(config: RunConfig, images: data.Images, on: torch.device) -> float:
    """How far the validation loss of a run that stopped in the middle is from that of one that did not."""
    execution, most = Execution(device=on.type, compile=True, checkpoint_seconds=0), ahead.MOST
    ahead.MOST = 4  # so that it is saved before the middle, too

    def stop(step: int, *_: float) -> None:
        if step >= data.steps_per_epoch(len(images.train), config.batch_size) // 2:
            raise KeyboardInterrupt

    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = train.pretrain(config, images, Path(folder) / "whole", execution)
            try:
                train.pretrain(config, images, Path(folder) / "cut", execution, stop)
            except KeyboardInterrupt:
                cut = train.pretrain(config, images, Path(folder) / "cut", execution)
    finally:
        ahead.MOST = most
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
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(on) + 2**26) / total, on)
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


def speeds(config: RunConfig, images: data.Images, on: torch.device, compiles_others: bool = True) -> dict[str, Any]:
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
    del steps
    for name, make in others_of(config, images, on).items():
        if compiles_others or "compiled" not in name:
            try:
                per_second[name] = config.batch_size / timed(make(), on)
            except Exception as error:  # of another library's; it has no column
                print(f"{config.network}, {name}: {error}", file=sys.stderr)
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
    for _ in range(rounds + 1):
        steps.begin(0, 0)
        started = time.perf_counter()
        for _ in range(each):
            steps.launch()
        steps.read()
        seconds.append((time.perf_counter() - started) / each)
    return config.batch_size / statistics.median(seconds[1:])


def step_by_step(config: RunConfig, images: data.Images, on: torch.device) -> Callable[[], None]:
    """The trainer's step without compiling, which the host waits for."""
    execution = Execution(device=on.type, compile=False, checkpoint_seconds=1e9)
    config = config.model_copy(update={"epochs": 1000})  # a schedule that is longer than what is timed
    one = train._Run(config, images, Path(tempfile.gettempdir()) / "isonb-gpu", execution, train.World(0, 1, on))
    batches = data.epoch_order(len(images.train), seed=config.seed, epoch=0).split(config.batch_size)
    stop = train.threading.Event()
    return lambda: one._step(0, batches[one.progress.step % (len(batches) - 1)], stop)


def others_of(config: RunConfig, images: data.Images, on: torch.device) -> dict[str, Callable[[], Callable[[], Any]]]:
    """What makes each other contestant's step: the trainer's of before, the plain form's, and that of the library with
    a network of this kind where it is installed, the last two eager and compiled.
    """
    pixels_BNC = images.train.pixels_BNC[: config.batch_size].to(on)
    is_masked_BN = objectives.sample_masks(config, images.train.index_B[: config.batch_size].to(on), "training")[..., 0]
    kinds: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], torch.Tensor]]] = {
        "plain": (lambda: _plain(config), lambda net: masked_loss(net, pixels_BNC, is_masked_BN))
    }
    if config.block == "transformer" and importlib.util.find_spec("transformers"):
        colour_BN = torch.randint(512, is_masked_BN.shape, device=on)
        kinds["ImageGPT"] = (lambda: image_gpt(config), lambda net: net(colour_BN, labels=colour_BN).loss)
    if config.block == "mixer" and importlib.util.find_spec("mlp_mixer_pytorch"):
        image_BCHW = pixels_BNC.float().mT.unflatten(2, (config.image_size, config.image_size)) / 127.5 - 1
        kinds["mlp-mixer-pytorch"] = (lambda: mixer(config), lambda net: _all_values(net(image_BCHW), pixels_BNC))
    found = {"step by step": lambda: step_by_step(config, images, on)}
    for name, (make, loss) in kinds.items():
        found[name] = lambda make=make, loss=loss: taking(make().to(on), loss, on)
        found[f"{name} compiled"] = lambda make=make, loss=loss: taking(torch.compile(make().to(on)), loss, on)
    return found


def _plain(config: RunConfig) -> nn.Module:
    return PlainNetwork(networks.build_network(config.model_copy(update={"encoding": "continuous"})))


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
