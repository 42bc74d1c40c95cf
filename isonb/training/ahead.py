"""Training steps that stay on the device and run ahead of the process that asks for them.

Images, their order, masks, rates and losses lie there; a step is one compiled graph, recorded as a CUDA graph where one
process trains, and nothing of it is waited for. The host looks at the losses of several steps at a time. A loss or a
gradient that is not finite leaves weights and Adam's state as they are, in its step and in all that follow, so the host
learns of it in time.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isonb.config import RunConfig
from isonb.models import fixed, objectives
from isonb.models import network as networks
from isonb.training import allocator, augmentation, capture, data
from isonb.training.schedule import learning_rate
from isonb.training.world import World
from isonb.validation import in_brief

RESIDENT = 0.25  # of a GPU's free memory that the images may take; larger sets are copied batch by batch
MOST = 32  # steps that the host runs ahead
SECONDS = 0.5  # in about which it looks, so that a request to stop is soon answered


@dataclasses.dataclass(frozen=True)
class Taken:
    """One step that was taken: its summed loss over all ranks, how many sub-pixels were scored, what was not finite."""

    loss: float
    count: int
    fault: str | None


@dataclasses.dataclass(frozen=True)
class _Plan:
    """An epoch on the host: its counts by step, and by step, part and place its images."""

    epoch: int
    image_SPB: torch.Tensor
    is_counted_SPB: torch.Tensor
    count_S: list[int]
    fits_S: list[bool]
    scale_S: torch.Tensor
    rate_S: torch.Tensor


class Steps:
    """The steps of one rank: `begin` an epoch, `launch` some of its steps, `read` what they came to."""

    def __init__(
        self,
        config: RunConfig,
        train: data.Split,
        network: networks.IsotropicNetwork,
        adam: torch.optim.Optimizer,
        precision: str,
        world: World,
        micro_batch: int = 0,
        is_recorded: bool = True,
    ) -> None:
        self.config, self.train, self.adam, self.precision, self.world = config, train, adam, precision, world
        self.steps_per_epoch = data.steps_per_epoch(len(train), config.batch_size)
        share = -(-config.batch_size // world.size)
        self.images = min(micro_batch or share, share)
        self.parts = -(-share // self.images)
        self.loss = fixed.FixedLoss(network, self.images)
        self.model: nn.Module = self.loss
        if world.size > 1:
            devices = [world.device.index] if world.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.loss, devices, forward_sync_buffers=False)
        self.is_recorded = is_recorded and world.size == 1
        self._allocate(next(network.parameters()).dtype)
        self.repeat = None
        self.read_from = self.launched = 0

    def _allocate(self, dtype: torch.dtype) -> None:
        """The tensors that a recorded step reads and writes, where they stay."""
        device, steps = self.world.device, self.steps_per_epoch
        shape = (steps, self.parts, self.images)
        self.index_B, self.pixels_BNC = self.train.index_B.to(device), self.train.pixels_BNC
        self.is_resident = self._fits_on_device()
        if self.is_resident:
            self.pixels_BNC = self.pixels_BNC.to(device)
        else:
            self.staged_PBNC = self.pixels_BNC.new_empty(shape[1:] + self.pixels_BNC.shape[1:], device=device)
        self.image_SPB = torch.zeros(shape, dtype=torch.int64, device=device)
        self.is_counted_SPB = torch.zeros(shape, dtype=torch.bool, device=device)
        self.keys = torch.zeros(1 + len(augmentation.PARTS), dtype=torch.int64, device=device)
        self.number = torch.zeros(1, dtype=torch.int64, device=device)
        self.scale_S = torch.zeros(steps, dtype=dtype, device=device)
        on_gpu = device.type == "cuda"
        self.rate_S = torch.zeros(steps, dtype=torch.float32 if on_gpu else torch.float64, device=device)
        self.loss_S = torch.zeros(steps, dtype=torch.float64, device=device)
        self.is_broken_S = torch.zeros(steps, device=device)
        self.rate, self.is_broken = self.rate_S.new_zeros(()), torch.zeros((), device=device)
        for group in self.adam.param_groups:
            group["lr"], group["capturable"] = self.rate, on_gpu
        self.adam.found_inf = self.is_broken  # where it is 1, a fused step changes nothing

    def _fits_on_device(self) -> bool:
        """Whether all images are to lie on the device."""
        if self.world.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.world.device)
        return self.train.pixels_BNC.numel() <= RESIDENT * free

    def begin(self, epoch: int, first: int) -> None:
        """Lay out an epoch on the device, of which step number `first` is the next."""
        plan = self._plan(epoch)
        for name in ("image_SPB", "is_counted_SPB", "scale_S", "rate_S"):
            getattr(self, name).copy_(getattr(plan, name))
        masks = objectives.mask_key(self.config, "training", epoch)
        self.keys.copy_(torch.tensor([masks, *augmentation.keys(self.config.seed, epoch)]))
        self.plan, self.read_from, self.launched = plan, first, first
        if self.repeat is None:
            self._prepare()
        self.number.fill_(first)

    def _plan(self, epoch: int) -> _Plan:
        """The order of an epoch, a rank's share of each batch filled up to one length, and the counts of its masks."""
        config, world = self.config, self.world
        steps, size = self.steps_per_epoch, self.parts * self.images
        order_B = data.epoch_order(len(self.train), seed=config.seed, epoch=epoch)
        image_SB = torch.zeros(steps, size, dtype=torch.int64)
        is_counted_SB = torch.zeros(steps, size, dtype=torch.bool)
        for step, batch_B in enumerate(order_B.split(config.batch_size)):
            share_B = data.rank_slice(batch_B, world.rank, world.size)
            image_SB[step, : len(share_B)], is_counted_SB[step, : len(share_B)] = share_B, True
        image_SPB, is_counted_SPB = (x.view(steps, self.parts, self.images) for x in (image_SB, is_counted_SB))
        positions_B, subpixels_B = (x.cpu() for x in fixed.scored(config, self.index_B, epoch))
        room_S = (positions_B[image_SPB] * is_counted_SPB).sum(2).amax(1)
        count_S = [int(subpixels_B[batch_B].sum()) for batch_B in order_B.split(config.batch_size)]
        first = epoch * steps
        return _Plan(
            epoch,
            image_SPB,
            is_counted_SPB,
            count_S,
            (room_S <= self.loss.capacity).tolist(),
            # DistributedDataParallel averages over ranks; a sum is wanted.
            torch.tensor([world.size / max(count, 1) for count in count_S], dtype=torch.float64),
            torch.tensor([learning_rate(config, first + step, steps) for step in range(steps)], dtype=torch.float64),
        )

    def _prepare(self) -> None:
        """Compile and record the step, by taking some that change nothing.

        After its first step DistributedDataParallel lays out its buckets anew, and a resumed run must not differ.
        """
        self.is_broken.fill_(1.0)
        self._stage(self.launched)
        try:
            self._warm_up()
        except Exception as error:  # of a compiler, which has many ways to fail
            if self.loss.compiled == self.loss._sum or allocator.is_full(error):
                raise
            warnings.warn(
                f"The training step cannot be compiled here, and is slower ({in_brief(str(error))}): compile=False "
                "leaves it as it is.",
                stacklevel=2,
            )
            self.loss.compiled = self.loss._sum
            self._warm_up()
        self.is_broken.zero_()
        self.adam.zero_grad()

    def _warm_up(self) -> None:
        self.adam.zero_grad()
        self.number.zero_()
        self.repeat = capture.repeatable(self._take, self.world.device, self.is_recorded)

    def launch(self) -> None:
        """Ask for the next step. What has nothing to learn from changes nothing."""
        step = self.launched
        self._stage(step)
        if not self.plan.count_S[step]:
            self.loss_S[step] = self.is_broken_S[step] = 0.0
            self._move_on()
        elif self.plan.fits_S[step]:
            self.repeat()
        else:
            self._take(is_compiled=False)
        self.launched += 1

    def _stage(self, step: int) -> None:
        """Copy a step's images where they do not all lie on the device."""
        if not self.is_resident:
            pixels_PBNC = self.pixels_BNC[self.plan.image_SPB[step]]
            self.staged_PBNC.copy_(pixels_PBNC.pin_memory(), non_blocking=True)  # which a stream keeps till it is done

    def _take(self, is_compiled: bool = True) -> None:
        """One step, of which nothing is waited for: the one of `number`, which then moves on."""
        image_PB, is_counted_PB, scale, rate = (
            x.index_select(0, self.number)[0] for x in (self.image_SPB, self.is_counted_SPB, self.scale_S, self.rate_S)
        )
        total = torch.zeros((), dtype=torch.float64, device=image_PB.device)
        for part in range(self.parts):
            image_B = image_PB[part]
            index_B = self.index_B[image_B]
            pixels_BNC = self.pixels_BNC[image_B] if self.is_resident else self.staged_PBNC[part]
            if self.config.augmentation != "none":
                pixels_BNC = augmentation.augment_by(pixels_BNC, index_B, self.keys[1:], self.config.image_size)
            waits = self.world.size > 1 and part < self.parts - 1
            with self.model.no_sync() if waits else contextlib.nullcontext():
                loss = self.model(
                    pixels_BNC, index_B, is_counted_PB[part], self.keys[0], self.precision, is_compiled=is_compiled
                )
                (loss * scale).backward()
            total += loss.detach()
        self._update(self.world.sum(total), rate)

    def _update(self, total: torch.Tensor, rate: torch.Tensor) -> None:
        """Let Adam change the weights, unless something is not finite or was before."""
        gradients = [p.grad for group in self.adam.param_groups for p in group["params"] if p.grad is not None]
        is_sound = total.isfinite() & nn.utils.get_total_norm(gradients).isfinite()
        self.is_broken.copy_(torch.maximum(self.is_broken, (~is_sound).to(self.is_broken.dtype)))
        self.rate.copy_(rate)
        self.adam.step()
        self.adam.zero_grad()
        self.loss_S.index_copy_(0, self.number, total[None])
        self.is_broken_S.index_copy_(0, self.number, self.is_broken[None])
        self._move_on()

    def _move_on(self) -> None:
        """To the next step; after the last of an epoch to the first, as what warms up may take more than it has."""
        self.number.add_(1).remainder_(self.steps_per_epoch)

    def read(self) -> list[Taken]:
        """Wait for the steps that were launched since the last look; those after a fault are left out."""
        steps = slice(self.read_from, self.launched)
        losses, broken = torch.stack([self.loss_S[steps], self.is_broken_S[steps].double()]).tolist()
        self.read_from = self.launched
        taken = []
        for loss, count, is_broken in zip(losses, self.plan.count_S[steps], broken, strict=True):
            fault = ("gradient" if math.isfinite(loss) else "loss") if is_broken else None
            taken.append(Taken(loss, count, fault))
            if fault:
                break
        return taken
