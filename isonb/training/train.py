"""Pre-training on 1 to n devices and hosts: one code path, resumable at any step.

Each rank trains on its slice of every global batch; losses and gradients are sums over masked sub-pixels divided by
the global count, so the result does not depend on how many ranks share the work. Masks, order and initial weights
are functions of (seed, epoch, image number), so neither does what it sees.

Run by itself, or by torchrun with rank, world size and rendezvous in the environment.
Paper: section 4.2. Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isonb import records
from isonb.config import Execution, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import augmentation, checkpoint, data, evaluate

PREEMPTED = 75  # exit status after SIGTERM or SIGINT: the state is saved, run the same command again (EX_TEMPFAIL)


class TrainingError(RuntimeError):
    """A run that cannot go on; its message names the step, the learning rate and the last good checkpoint."""


class Preempted(KeyboardInterrupt):
    """The run was asked to stop, finished its step and wrote a checkpoint."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A finished run: the network in evaluation mode, what its course was, and the device's precision."""

    network: networks.IsotropicNetwork
    progress: checkpoint.Progress
    device: torch.device


OnStep = Callable[[int, int, float], None]  # (steps taken, steps in all, the last step's loss in nats)


@dataclasses.dataclass(frozen=True)
class World:
    """This process among its peers: rank, their number, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The element-wise sum over all ranks; on one rank, x itself."""
        if self.size > 1:
            moved = x.to(self.device)
            dist.all_reduce(moved)
            return moved.to(x.device)
        return x


@contextlib.contextmanager
def join_world(execution: Execution) -> Iterator[World]:
    """Take part in the process group that torchrun describes in the environment, or be alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    elif execution.threads or size > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(execution.threads or max(1, len(os.sched_getaffinity(0)) // local))
    if size == 1:
        yield World(0, 1, device)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def resolve_precision(execution: Execution, device: torch.device) -> str:
    """'auto' is bfloat16 where matrix units multiply it: GPUs of compute capability 8, CPUs with AMX or AVX512-BF16."""
    if execution.precision != "auto":
        return execution.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    gains = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if gains else "float32"


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step `step`, counted from 0: linear to the peak over the warm-up, then a half cosine towards 0.

    No step is wasted on a rate of exactly 0: warm-up step t of W takes (t + 1) / W of the peak, and the cosine starts
    at the peak and would reach 0 one step after the last. Paper: section 4.2.
    """
    warmup, total = round(config.warmup_epochs * steps_per_epoch), config.epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def pretrain(
    config: RunConfig,
    images: data.Images,
    folder: Path,
    execution: Execution | None = None,
    on_step: OnStep | None = None,
) -> Pretrained:
    """Train one network from scratch, or from the newest checkpoint in `folder`, to the end of its schedule.

    Raises `TrainingError` for a loss or gradient that is not finite, `checkpoint.CheckpointError` when a checkpoint
    belongs to another configuration or cannot be written, and `Preempted` after SIGTERM or SIGINT.
    """
    execution = execution or Execution()
    with join_world(execution) as world:
        run = _Run(config, images, folder, execution, world)
        with _stop_requests() as stop:
            run.train(on_step or (lambda *_: None), stop)
        run.network.eval()
        return Pretrained(run.network, run.progress, world.device)


class _Run:
    """The state of one rank: network, optimiser, and position in the data order."""

    def __init__(
        self, config: RunConfig, images: data.Images, folder: Path, execution: Execution, world: World
    ) -> None:
        self.config, self.images, self.folder, self.execution, self.world = config, images, folder, execution, world
        self.network = networks.build_network(config).to(world.device)
        if execution.precision == "float64":
            self.network.double()
        self.adam = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        newest = checkpoint.latest(folder)
        if newest:
            self.progress = checkpoint.load(newest, config, self.network, self.adam)
        else:
            self.progress = checkpoint.Progress(precision=resolve_precision(execution, world.device))
            self.progress.processes = world.size
        self.steps_per_epoch = data.steps_per_epoch(len(images.train), config.batch_size)
        self.steps = config.epochs * self.steps_per_epoch
        self.model: nn.Module = self.network
        if execution.compile:
            for block in self.network.blocks:
                block.compile()
        if world.size > 1:
            devices = [world.device.index] if world.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.network, devices, broadcast_buffers=False)

    def train(self, on_step: OnStep, stop: threading.Event) -> None:
        """Run every remaining step; a checkpoint from time to time, at the end, and when asked to stop."""
        progress, started, saved = self.progress, time.perf_counter(), time.perf_counter()
        if not progress.curve:
            self._close_epoch(0, 0.0)
        while progress.step < self.steps:
            epoch, done = divmod(progress.step, self.steps_per_epoch)
            batches = data.batches(
                len(self.images.train),
                self.config.batch_size,
                seed=self.config.seed,
                epoch=epoch,
                rank=self.world.rank,
                world_size=self.world.size,
            )
            for batch_B in itertools.islice(batches, done, None):
                due = time.perf_counter() - saved >= self.execution.checkpoint_seconds
                loss, must_stop, must_save = self._step(epoch, batch_B, stop.is_set(), due)
                now = time.perf_counter()
                progress.seconds += now - started
                progress.open_seconds += now - started
                started = now
                if progress.step % self.steps_per_epoch == 0:
                    self._close_epoch(epoch + 1, learning_rate(self.config, progress.step - 1, self.steps_per_epoch))
                    started = time.perf_counter()
                on_step(progress.step, self.steps, loss)
                if progress.step == self.steps or must_stop or must_save:
                    self._save()
                    saved = time.perf_counter()
                if must_stop and progress.step < self.steps:
                    raise Preempted(
                        f"Stopped after step {progress.step} of {self.steps}: run the same command again to go on."
                    )

    def _step(self, epoch: int, batch_B: torch.Tensor, stop: bool, due: bool) -> tuple[float, bool, bool]:
        """One optimiser step on this rank's share: the global loss, and whether any rank wants to stop or to save."""
        config, progress, train = self.config, self.progress, self.images.train
        share_B = batch_B if len(batch_B) else torch.zeros(1, dtype=torch.int64)  # an idle rank: an image, unmasked
        is_masked_BNC = objectives.sample_masks(config, train.index_B[share_B], "training", epoch)
        is_masked_BNC = is_masked_BNC & torch.tensor(len(batch_B) > 0)
        agreed = self.world.sum(torch.tensor([int(is_masked_BNC.sum()), int(stop), int(due)]))
        count = int(agreed[0])
        nats = torch.zeros((), dtype=torch.float64)
        if count:
            rate = learning_rate(config, progress.step, self.steps_per_epoch)
            nats += self._accumulate_gradients(share_B, is_masked_BNC, epoch, count)
            nats = self.world.sum(nats)
            self._refuse_non_finite(float(nats), rate)
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
            self.adam.zero_grad()
        progress.step += 1
        progress.open_loss += float(nats)
        progress.open_count += count
        return float(nats) / max(count, 1), bool(agreed[1]), bool(agreed[2])

    def _accumulate_gradients(
        self, share_B: torch.Tensor, is_masked_BNC: torch.Tensor, epoch: int, count: int
    ) -> torch.Tensor:
        """Gradients of the global mean loss, in micro-batches; ranks exchange them once. Returns this rank's nats."""
        config, train, device = self.config, self.images.train, self.world.device
        size = self.execution.micro_batch or len(share_B)
        parts = list(zip(share_B.split(size), is_masked_BNC.split(size), strict=True))
        nats = torch.zeros((), dtype=torch.float64)
        for number, (image_B, masked) in enumerate(parts, 1):
            pixels_BNC = train.pixels_BNC[image_B].to(device)
            if config.augmentation != "none":
                pixels_BNC = augmentation.augment(
                    pixels_BNC, train.index_B[image_B], seed=config.seed, epoch=epoch, size=config.image_size
                )
            waits = self.world.size > 1 and number < len(parts)
            with self.model.no_sync() if waits else contextlib.nullcontext():
                with evaluate.autocast(device, self.progress.precision):
                    nats_part, _ = objectives.bert_loss(self.model, pixels_BNC, masked.to(device))
                # DistributedDataParallel averages over ranks; a sum is wanted.
                (nats_part * (self.world.size / count)).backward()
            nats += nats_part.detach().double().cpu()
        return nats

    def _refuse_non_finite(self, nats: float, rate: float) -> None:
        """Look at the loss and at every gradient before the weights are touched, so that no saved state is broken."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if math.isfinite(nats) and math.isfinite(norm):
            return
        kept = checkpoint.latest(self.folder)
        raise TrainingError(
            f"The {'gradient' if math.isfinite(nats) else 'loss'} is not finite at step {self.progress.step} with "
            f"learning rate {rate:.3g}; lower the learning rate. "
            f"{f'The last good checkpoint is {kept}.' if kept else 'No checkpoint had been written yet.'}"
        )

    def _close_epoch(self, epoch: int, rate: float) -> None:
        """Score the validation images, each rank its share, and add a row to the learning curve."""
        progress, split = self.progress, self.images.validation
        mine_B = data.rank_slice(torch.arange(len(split)), self.world.rank, self.world.size)
        self.network.eval()
        nats_B, count_B = evaluate.nats_per_image(self.network, self.config, split, progress.precision, mine_B)
        self.network.train()
        nats, count = self.world.sum(nats_B).sum(), self.world.sum(count_B).sum()
        progress.curve.append(
            records.Epoch(
                epoch=epoch,
                learning_rate=rate,
                train_loss=progress.open_loss / progress.open_count if progress.open_count else None,
                validation_loss=float(nats / count),
                seconds=progress.open_seconds,
                images=len(self.images.train) if epoch else 0,
            )
        )
        progress.open_loss, progress.open_count, progress.open_seconds = 0.0, 0, 0.0

    def _save(self) -> None:
        if self.world.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.world.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.progress.peak_memory_bytes = max(peak, self.progress.peak_memory_bytes or 0)
        if self.world.rank == 0:
            checkpoint.save(self.folder, self.config, self.progress, self.network, self.adam)


@contextlib.contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets, so that the step under way is finished and saved first."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
