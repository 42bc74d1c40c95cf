"""Pre-training on 1 to n devices and hosts: one code path, resumable at any step.

Each rank trains on its slice of every global batch; losses and gradients are sums over scored sub-pixels (the masked
ones, or autoregressively all) divided by the global count, so the result does not depend on how many ranks share the
work. Masks, order and initial weights are functions of (seed, epoch, image number), so neither does what it sees.
Steps are taken one by one or, where they are compiled, as on a GPU, by `ahead.Steps`.

The same configuration on the same number of processes and threads of one CPU gives the same bits; on another number,
the same up to the order of sums. On a GPU even a repetition is the same up to rounding only: cuDNN's convolution
gradients, the encodings' and the backward pass of memory-efficient attention add in no fixed order.

Run by itself, or by torchrun with rank, world size and rendezvous in the environment.
Paper: section 4.2. Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isonb import schema
from isonb.config import Execution, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import ahead, allocator, augmentation, checkpoint, data, evaluate, optimizers
from isonb.training.schedule import learning_rate
from isonb.training.signals import Preempted, stop_requests
from isonb.training.world import World, join_world


class TrainingError(RuntimeError):
    """A run that cannot go on; its message names the step, the learning rate and the last good checkpoint."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A finished run: the network in evaluation mode, what its course was, and the device it is on.

    `kept` are the files of the weights at the close of every epoch but the last, where the run was asked to keep them;
    `weights` says which file holds the final ones, on the rank that wrote it.
    """

    network: networks.IsotropicNetwork
    progress: checkpoint.Progress
    device: torch.device
    kept: tuple[Path, ...] = ()
    weights: schema.Weights | None = None


# (steps taken, steps in all, the last step's mean loss): after each step or, on a GPU, after some
OnStep = Callable[[int, int, float], None]


def pretrain(
    config: RunConfig,
    images: data.Images,
    folder: Path,
    execution: Execution | None = None,
    on_step: OnStep | None = None,
    keeps_epochs: bool = False,
) -> Pretrained:
    """Train one network from scratch, or from the newest checkpoint in `folder`, to the end of its schedule.

    A run keeps the precision it began with: 'auto' goes on in it, and another one is refused. With `keeps_epochs` it
    keeps the weights at the close of each epoch as well, to be probed.
    Raises `TrainingError` for a loss or gradient that is not finite and where a GPU's memory is full,
    `checkpoint.CheckpointError` when a checkpoint belongs to another configuration or precision or cannot be written,
    or when an epoch's weights are missing, and `Preempted` after SIGTERM or SIGINT.
    """
    execution = execution or Execution()
    with join_world(execution) as world, _memory_told_of(world, execution.micro_batch or config.batch_size):
        run = _Run(config, images, folder, execution, world, keeps_epochs)
        try:
            with stop_requests() as stop:
                run.train(on_step or (lambda *_: None), stop)
        except BaseException as fault:
            traceback.clear_frames(fault.__traceback__)
            raise
        finally:
            # The wrapper must go before its process group: holding the last reference, it would end the group with
            # the interpreter locked and wait for ever for a thread that needs the interpreter.
            run.model, run.ahead = run.network, None
        kept = checkpoint.kept(folder, config.epochs) if keeps_epochs and world.rank == 0 else ()
        weights = checkpoint.keep_final(folder, config, run.network) if world.rank == 0 else None
        return Pretrained(run.network.eval(), run.progress, world.device, kept, weights)


@contextlib.contextmanager
def _memory_told_of(world: World, images: int) -> Iterator[None]:
    """Say in a sentence that a GPU's memory is full, where a step is of so many images."""
    try:
        yield
    except RuntimeError as fault:
        if world.device.type == "cuda" and allocator.is_full(fault):
            raise TrainingError(
                f"The memory of {torch.cuda.get_device_name(world.device)} is full: set micro_batch to fewer images "
                f"than {images}, or leave the GPU to this run alone."
            ) from None
        raise


class _Run:
    """The state of one rank: network, optimiser, and position in the data order."""

    def __init__(
        self,
        config: RunConfig,
        images: data.Images,
        folder: Path,
        execution: Execution,
        world: World,
        keeps_epochs: bool = False,
    ) -> None:
        allocator.keep_freed_memory()
        self.config, self.images, self.folder, self.execution, self.world = config, images, folder, execution, world
        self.keeps_epochs = keeps_epochs
        content = world.share(checkpoint.resume(folder) if world.rank == 0 else b"")
        saved = checkpoint.read(content, config, folder) if content else None
        precision = world.share(evaluate.resolve_precision(execution, world.device).encode()).decode()
        self.progress = saved.progress if saved else checkpoint.Progress(precision=precision)
        if execution.precision not in ("auto", self.progress.precision):
            raise checkpoint.CheckpointError(
                f"{folder} holds a run in {self.progress.precision} and precision={execution.precision!r} was asked "
                "for: leave it at 'auto' to go on, or delete the checkpoints to start anew."
            )
        self.network = networks.build_network(config, images.palette_KC).to(world.device)
        if self.progress.precision == "float64":
            self.network.double()
        self.adam = optimizers.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        if saved:
            saved.restore(self.network, self.adam)
        self.steps_per_epoch = data.steps_per_epoch(len(images.train), config.batch_size)
        self.steps = config.epochs * self.steps_per_epoch
        self.saved_at = time.perf_counter()
        self.model: nn.Module = self.network
        self.ahead: ahead.Steps | None = None
        if evaluate.compiles(execution, world.device):
            state = self.network, self.adam, self.progress.precision
            self.ahead = ahead.Steps(config, images.train, *state, world, execution.micro_batch)
        elif world.size > 1:
            devices = [world.device.index] if world.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.network, devices, forward_sync_buffers=False)
            self._settle_buckets()

    def _settle_buckets(self) -> None:
        """Take a backward pass without a loss: after its first one DistributedDataParallel lays out its buckets anew.

        From three ranks on the order of sums depends on the layout, and a resumed run must not differ in it.
        """
        pixels_BNC = self.images.train.pixels_BNC[:1].to(self.world.device)
        unscored_BNC = torch.zeros_like(pixels_BNC, dtype=torch.bool)
        with evaluate.autocast(self.world.device, self.progress.precision):
            palette = self.network.palette
            nothing, _ = objectives.summed_loss(self.config, self.model, pixels_BNC, unscored_BNC, palette)
        nothing.backward()
        self.adam.zero_grad()

    def train(self, on_step: OnStep, stop: threading.Event) -> None:
        """Run what remains: row 0 of the learning curve is before any step, row n closes epoch n."""
        for row in range(len(self.progress.curve), self.config.epochs + 1):
            if row:
                (self._train_ahead if self.ahead else self._train_epoch)(row - 1, on_step, stop)
            self._close_epoch(row)
            if row == self.config.epochs:
                self._save()

    def _train_epoch(self, epoch: int, on_step: OnStep, stop: threading.Event) -> None:
        """Take the epoch's remaining steps; write a checkpoint from time to time, and when asked to stop."""
        progress, world = self.progress, self.world
        order = {"seed": self.config.seed, "epoch": epoch, "rank": world.rank, "world_size": world.size}
        batches = data.batches(len(self.images.train), self.config.batch_size, **order)
        for batch_B in itertools.islice(batches, progress.step - epoch * self.steps_per_epoch, None):
            started = time.perf_counter()
            loss, must_stop, must_save = self._step(epoch, batch_B, stop)
            seconds = time.perf_counter() - started
            progress.seconds += seconds
            progress.open_seconds += seconds
            on_step(progress.step, self.steps, loss)
            self._keep_or_stop(must_stop, must_save)

    def _train_ahead(self, epoch: int, on_step: OnStep, stop: threading.Event) -> None:
        """The same, several steps at a time: as many as take about `ahead.SECONDS`, on all ranks alike."""
        progress, world, end, several = self.progress, self.world, (epoch + 1) * self.steps_per_epoch, 1
        self.ahead.begin(epoch, progress.step - epoch * self.steps_per_epoch)
        while progress.step < end:
            started = time.perf_counter()
            for _ in range(min(several, end - progress.step)):
                self.ahead.launch()
                if world.size == 1 and stop.is_set():
                    break
            taken = self.ahead.read()
            seconds = time.perf_counter() - started
            for one in taken:
                self._count(one)
            progress.seconds += seconds
            progress.open_seconds += seconds
            is_due = time.perf_counter() - self.saved_at >= self.execution.checkpoint_seconds
            wishes = torch.tensor([stop.is_set(), is_due, seconds / world.size], dtype=torch.float64)
            must_stop, must_save, seconds = world.sum(wishes).tolist()  # the same on every rank
            several = min(max(int(ahead.SECONDS * len(taken) / seconds), 1), ahead.MOST)
            on_step(progress.step, self.steps, taken[-1].loss / max(taken[-1].count, 1))
            self._keep_or_stop(must_stop > 0, must_save > 0)

    def _count(self, one: ahead.Taken) -> None:
        """Add a step that was taken to the progress, or end the run at it."""
        if one.fault:
            raise self._diverged(one.fault, learning_rate(self.config, self.progress.step, self.steps_per_epoch))
        self.progress.add_step(self.world.size)
        self.progress.open_loss += one.loss
        self.progress.open_count += one.count

    def _keep_or_stop(self, must_stop: bool, must_save: bool) -> None:
        progress = self.progress
        if must_stop or must_save:
            self._save()
        if must_stop:
            raise Preempted(f"Stopped after step {progress.step} of {self.steps}: run the same command again.")

    def _step(self, epoch: int, batch_B: torch.Tensor, stop: threading.Event) -> tuple[float, bool, bool]:
        """One optimiser step on this rank's share: the global loss, and whether any rank wants to stop or to save."""
        config, progress, train = self.config, self.progress, self.images.train
        share_B = batch_B if len(batch_B) else torch.zeros(1, dtype=torch.int64)  # an idle rank: an image, unmasked
        is_scored_BNC = objectives.sample_scored(config, train.index_B[share_B], "training", epoch)
        is_scored_BNC = is_scored_BNC & torch.tensor(len(batch_B) > 0)
        count = int(self.world.sum(is_scored_BNC.sum()))
        total = self._add_gradients(share_B, is_scored_BNC, epoch, count) if count else 0.0
        is_due = time.perf_counter() - self.saved_at >= self.execution.checkpoint_seconds
        wishes = torch.tensor([total, stop.is_set(), is_due], dtype=torch.float64)
        total, must_stop, must_save = self.world.sum(wishes).tolist()  # the same on every rank
        if count:
            rate = learning_rate(config, progress.step, self.steps_per_epoch)
            self._refuse_non_finite(total, rate)
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
            self.adam.zero_grad()
        progress.add_step(self.world.size)
        progress.open_loss += total
        progress.open_count += count
        return total / max(count, 1), must_stop > 0, must_save > 0

    def _add_gradients(self, share_B: torch.Tensor, is_scored_BNC: torch.Tensor, epoch: int, count: int) -> float:
        """Gradients of the global mean loss, in micro-batches; ranks exchange them once. Returns this rank's sum."""
        config, train, device = self.config, self.images.train, self.world.device
        size = self.execution.micro_batch or len(share_B)
        parts = list(zip(share_B.split(size), is_scored_BNC.split(size), strict=True))
        total = 0.0
        for number, (image_B, scored) in enumerate(parts, 1):
            pixels_BNC = train.pixels_BNC[image_B].to(device)
            if config.augmentation != "none":
                pixels_BNC = augmentation.augment(
                    pixels_BNC, train.index_B[image_B], seed=config.seed, epoch=epoch, size=config.image_size
                )
            waits = self.world.size > 1 and number < len(parts)
            with self.model.no_sync() if waits else contextlib.nullcontext():
                with evaluate.autocast(device, self.progress.precision):
                    palette = self.network.palette
                    part, _ = objectives.summed_loss(config, self.model, pixels_BNC, scored.to(device), palette)
                # DistributedDataParallel averages over ranks; a sum is wanted.
                (part * (self.world.size / count)).backward()
            total += float(part.detach())
        return total

    def _refuse_non_finite(self, total: float, rate: float) -> None:
        """Look at the loss and at every gradient before the weights are touched, so that no saved state is broken."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        if not math.isfinite(total):
            raise self._diverged("loss", rate)
        if not math.isfinite(float(nn.utils.get_total_norm(gradients))):
            raise self._diverged("gradient", rate)

    def _diverged(self, what: str, rate: float) -> TrainingError:
        kept = checkpoint.latest(self.folder)
        return TrainingError(
            f"The {what} is not finite at step {self.progress.step} with learning rate {rate:.3g}; lower the learning "
            f"rate. {f'The last good checkpoint is {kept}.' if kept else 'No checkpoint had been written yet.'}"
        )

    def _close_epoch(self, row: int) -> None:
        """Score the validation images, each rank its share, and add a row to the learning curve."""
        progress, split = self.progress, self.images.validation
        rate = learning_rate(self.config, progress.step - 1, self.steps_per_epoch) if row else 0.0
        mine_B = data.rank_slice(torch.arange(len(split)), self.world.rank, self.world.size)
        self.network.eval()
        loss_B, count_B = evaluate.loss_per_image(self.network, self.config, split, progress.precision, mine_B)
        self.network.train()
        loss = float(self.world.sum(loss_B).sum() / self.world.sum(count_B).sum())
        if not math.isfinite(loss):
            raise self._diverged("validation loss", rate)
        progress.curve.append(
            schema.Epoch(
                epoch=row,
                learning_rate=rate,
                train_loss=progress.open_loss / progress.open_count if progress.open_count else None,
                validation_loss=loss,
                seconds=progress.open_seconds,
                images=len(self.images.train) if row else 0,
            )
        )
        progress.open_loss, progress.open_count, progress.open_seconds = 0.0, 0, 0.0
        if self.keeps_epochs and self.world.rank == 0 and 0 < row < self.config.epochs:
            checkpoint.keep(self.folder, self.config, row, self.network)  # before a checkpoint knows of this row

    def _save(self) -> None:
        if self.world.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.world.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.progress.peak_memory_bytes = max(peak, self.progress.peak_memory_bytes or 0)
        if self.world.rank == 0:
            checkpoint.save(self.folder, self.config, self.progress, self.network, self.adam)
        self.saved_at = time.perf_counter()
