"""Fine-tuning: the whole pre-trained network is trained on to name the classes, and the same one from scratch.

A linear head that starts at zero reads the mean over the positions of the normalised last layer. Every step adds the
loss of the classes to that of pre-training, both from one forward pass: what pre-training would mask is masked, and an
image is judged whole. Both networks see the same images in the same order, masked and augmented alike.

On one device. The same configuration on the same number of threads of one CPU gives the same bits.
Book: chapter "image-GPT".
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from isonb import schema
from isonb.config import Cell, Execution, FinetuneConfig, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import augmentation, data, evaluate, optimizers
from isonb.training.schedule import learning_rate
from isonb.training.train import OnStep, Pretrained


class FinetuneError(RuntimeError):
    """Fine-tuning that cannot go on; its message names the step, the learning rate and what to do."""


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """The record's part and, for paired tests, which test images each network gets right: bool, one for each image."""

    record: schema.Finetuned
    correct_B: np.ndarray
    scratch_correct_B: np.ndarray


class _Classifier(nn.Module):
    """A network, and a head that starts at zero on the mean of its normalised last layer."""

    def __init__(self, network: networks.IsotropicNetwork, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classify = networks.undrawn_linear(network.config.width, classes)
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, x_BND: networks.Tokens) -> torch.Tensor:
        return self.classify(self.network.head_norm(x_BND).mean(1))


def tune(
    cell: Cell,
    images: data.Images,
    pretrained: Pretrained,
    execution: Execution | None = None,
    on_step: OnStep | None = None,
) -> Finetuned | None:
    """Fine-tune a copy of a pre-trained network, then train its twin from scratch; None where no epochs are asked for.

    Device and precision are those of pre-training; of `execution` the micro-batches alone count here.
    Raises `FinetuneError` for a loss or gradient that is not finite.
    """
    if not cell.finetune.epochs:
        return None
    started = time.perf_counter()
    execution, on_step = execution or Execution(), on_step or (lambda *_: None)
    tuned, scratch = (
        _Tuning(cell, images, network, pretrained, execution.micro_batch, words).train(part, on_step)
        for part, (words, network) in enumerate([
            ("of fine-tuning", copy.deepcopy(pretrained.network)),
            ("of training from scratch", networks.untrained(pretrained.network)),
        ])
    )  # fmt: skip
    record = schema.Finetuned(
        accuracy=tuned.correct_B.mean().item(),
        epoch=tuned.epoch,
        curve=tuned.curve,
        scratch_accuracy=scratch.correct_B.mean().item(),
        scratch_epoch=scratch.epoch,
        scratch_curve=scratch.curve,
        seconds=time.perf_counter() - started,
        protocol=describe(cell),
        data=None if cell.run.read_by(cell.finetune) == cell.run else data.describe(images),
    )
    return Finetuned(record, tuned.correct_B, scratch.correct_B)


def as_run(run: RunConfig, config: FinetuneConfig) -> RunConfig:
    """The settings of pre-training with those that fine-tuning changes; the warm-up has the same share of the steps."""
    return run.model_copy(
        update={
            "epochs": config.epochs,
            "warmup_epochs": run.warmup_epochs / run.epochs * config.epochs,
            "learning_rate": config.learning_rate,
            "batch_size": config.batch_size or run.batch_size,
            "augmentation": config.augmentation,
        }
    )


def describe(cell: Cell) -> str:
    """The protocol in one line, to stand beside an accuracy."""
    config, run = cell.finetune, as_run(cell.run, cell.finetune)
    generative = f" and {config.generative_weight:g} x the pre-training loss" * (config.generative_weight > 0)
    return (
        f"linear head on the mean of the last layer, all weights trained on the classes{generative}, "
        f"Adam {run.learning_rate:g}, warm-up and cosine over {run.epochs} epochs, batch {run.batch_size}, "
        f"augmentation {run.augmentation}, epoch chosen on validation"
    )


@dataclasses.dataclass(frozen=True)
class _Judged:
    """Which test images are right after the best epoch, that epoch from 1, and each epoch's validation accuracy."""

    correct_B: np.ndarray
    epoch: int
    curve: list[float]


class _Tuning:
    """The training of one classifier. Epochs are counted on from pre-training's last: their draws are new ones."""

    def __init__(
        self,
        cell: Cell,
        images: data.Images,
        network: networks.IsotropicNetwork,
        pretrained: Pretrained,
        micro_batch: int,
        words: str,
    ) -> None:
        self.config, self.run, self.first = cell.finetune, as_run(cell.run, cell.finetune), cell.run.epochs
        self.images, self.micro_batch, self.words = images, micro_batch, words
        self.device, self.precision = pretrained.device, pretrained.progress.precision
        self.classifier = _Classifier(network, len(images.classes)).to(pretrained.network.head.weight)
        self.steps_per_epoch = data.steps_per_epoch(len(images.train), self.run.batch_size)
        self.step = 0
        self.adam = optimizers.AdamW(
            [p for p in self.classifier.parameters() if p.requires_grad],
            betas=(self.run.adam_beta1, self.run.adam_beta2),
            eps=self.run.adam_eps,
            weight_decay=self.run.weight_decay,
            fused=True,
        )

    def train(self, part: int, on_step: OnStep) -> _Judged:
        """Train to the end of the schedule and judge the epoch that is best on validation, the earliest of equals.

        `on_step` is told of this as part 0 or 1 of two that have equally many steps.
        """
        steps, curve, best = self.run.epochs * self.steps_per_epoch, [], {}
        for epoch in range(self.first, self.first + self.run.epochs):
            self.classifier.train()
            for batch_B in data.batches(len(self.images.train), self.run.batch_size, seed=self.run.seed, epoch=epoch):
                loss = self._step(epoch, batch_B)
                on_step(part * steps + self.step, 2 * steps, loss)
            curve.append(self.is_correct(self.images.validation).mean().item())
            if curve[-1] > max(curve[:-1], default=-1.0):
                best = {name: tensor.clone() for name, tensor in self.classifier.state_dict().items()}
        self.classifier.load_state_dict(best)
        return _Judged(self.is_correct(self.images.test), int(np.argmax(curve)) + 1, curve)

    def _step(self, epoch: int, batch_B: torch.Tensor) -> float:
        """One optimiser step in micro-batches; returns the joint loss."""
        train, run = self.images.train, self.run
        is_scored_BNC = objectives.sample_scored(run, train.index_B[batch_B], "training", epoch)
        count, size = int(is_scored_BNC.sum()), self.micro_batch or len(batch_B)
        total = 0.0
        for image_B, is_scored in zip(batch_B.split(size), is_scored_BNC.split(size), strict=True):
            pixels_BNC = train.pixels_BNC[image_B].to(self.device)
            if run.augmentation != "none":
                pixels_BNC = augmentation.augment(
                    pixels_BNC, train.index_B[image_B], seed=run.seed, epoch=epoch, size=run.image_size
                )
            label_B = train.labels_B[image_B].to(self.device)
            classes, generative = self.losses(pixels_BNC, label_B, is_scored.to(self.device))
            loss = classes / len(batch_B) + self.config.generative_weight * generative / max(count, 1)
            loss.backward()
            total += float(loss.detach())
        rate = learning_rate(run, self.step, self.steps_per_epoch)
        gradients = [p.grad for p in self.classifier.parameters() if p.grad is not None]
        if not (math.isfinite(total) and math.isfinite(float(nn.utils.get_total_norm(gradients)))):
            raise FinetuneError(
                f"The loss or its gradient is not finite at step {self.step} {self.words} with learning rate "
                f"{rate:.3g}: lower finetune_learning_rate."
            )
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.adam.zero_grad()
        self.step += 1
        return total

    def losses(
        self, pixels_BNC: torch.Tensor, label_B: torch.Tensor, is_scored_BNC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The summed loss of the classes, in nats, and of the scored sub-pixels, in the objective's unit.

        Without a weight for the latter nothing is masked, and it is 0.
        """
        network, is_joint = self.classifier.network, self.config.generative_weight > 0
        with evaluate.autocast(self.device, self.precision):
            x_BND = network.final_layer(pixels_BNC, networks.hidden(self.run, is_scored_BNC) if is_joint else None)
            logits_BK = self.classifier(x_BND)
            logits_MCV = network.logits(x_BND, is_scored_BNC) if is_joint else None
        if logits_BK.dtype == torch.bfloat16:
            logits_BK = logits_BK.float()
        classes = F.cross_entropy(logits_BK, label_B, reduction="sum")
        if logits_MCV is None:
            return classes, 0.0
        loss = objectives.loss_of(self.run, network.palette)
        return classes, loss.per_subpixel(logits_MCV, pixels_BNC, is_scored_BNC).sum()

    @torch.inference_mode()
    def is_correct(self, split: data.Split) -> np.ndarray:
        """Which whole images of a split get their own class."""
        self.classifier.eval()
        answers = []
        for chunk_B in torch.arange(len(split)).split(evaluate.at_once(self.device)):
            with evaluate.autocast(self.device, self.precision):
                x_BND = self.classifier.network.final_layer(split.pixels_BNC[chunk_B].to(self.device))
                answers.append(self.classifier(x_BND).argmax(1).cpu())
        return (torch.cat(answers) == split.labels_B).numpy()
