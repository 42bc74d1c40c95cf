"""Linear classifiers of every layer at once, on features that are scaled alike: the mathematics of the probes.

Paper: section 4.2. Book: chapter "Probing".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isonb.config import ProbeConfig
from isonb.models import splitmix
from isonb.training import capture, data, optimizers

ROUNDING = 1e-6  # share of the largest variance below which a direction is left out


@torch.inference_mode()
def whiten(features: dict[str, list[Float[Tensor, "L B F"]]], device: torch.device | None = None) -> None:
    """Centre, turn and scale the features of each layer, in place, to unit covariance over the training images.

    A linear classifier of the one is a linear classifier of the other, so no layer gains what it lacked. Directions
    with next to none of the variance are rounding, and set to zero. One layer at a time is on the device.
    """
    for layer, train_BF in enumerate(features["train"][0]):
        mean_F, map_FF = whitening(train_BF.to(device))
        for views in features.values():
            for x_LBF in views:
                x_LBF[layer] = (x_LBF[layer].to(device) - mean_F) @ map_FF


def whitening(x_BF: Float[Tensor, "B F"]) -> tuple[Float[Tensor, "F"], Float[Tensor, "F F"]]:
    """A layer's mean, and the map that makes of centred features uncorrelated ones of variance 1, or 0."""
    mean_F = x_BF.double().mean(0)
    centred_BF = x_BF.double() - mean_F
    variance_F, direction_FF = torch.linalg.eigh(centred_BF.T @ centred_BF / len(x_BF))
    scale_F = torch.where(variance_F > ROUNDING * variance_F[-1], variance_F.rsqrt(), 0.0)
    return mean_F.to(x_BF), (direction_FF * scale_F).to(x_BF)


@torch.inference_mode()
def standardise(features: dict[str, list[Float[Tensor, "L B F"]]]) -> None:
    """Centre and scale each feature, in place, by its mean and deviation over the training images."""
    deviation_L1F, mean_L1F = torch.std_mean(features["train"][0], dim=1, keepdim=True)
    deviation_L1F[deviation_L1F < 1e-6] = 1.0  # a feature that is constant there says nothing, elsewhere neither
    for views in features.values():
        for x_LBF in views:
            x_LBF.sub_(mean_L1F).div_(deviation_L1F)


def _logits(x_LBF: Tensor, weight_LFK: Tensor, bias_LK: Tensor) -> Float[Tensor, "L B K"]:
    return torch.baddbmm(bias_LK[:, None], x_LBF, weight_LFK)


def probabilities(x_LBF: Tensor, weight_LFK: Tensor, bias_LK: Tensor) -> Float[Tensor, "L B K"]:
    """What each layer's classifier gives every class."""
    return _logits(x_LBF, weight_LFK, bias_LK).softmax(2)


def by_adam(
    x_LBF: Float[Tensor, "L B F"],
    label_B: Tensor,
    classes: int,
    config: ProbeConfig,
    seed: int,
    penalties: Sequence[float] = (0.0,),
) -> list[tuple[Tensor, Tensor]]:
    """The paper's procedure for every layer at once: Adam from zero weights, cosine to 0, the same batches for all.

    The classifiers' losses are summed, so each gets the gradient of its own: the mean cross-entropy plus half its L2
    penalty times its squared weights. Returns weights and biases on the CPU for each penalty.
    """
    layers, images, width = x_LBF.shape
    weight_LFPK = nn.Parameter(x_LBF.new_zeros(layers, width, len(penalties), classes))
    bias_LPK = nn.Parameter(x_LBF.new_zeros(layers, len(penalties), classes))
    penalty_P, device = x_LBF.new_tensor(penalties), x_LBF.device
    rate = torch.zeros((), dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)
    adam = optimizers.Adam([weight_LFPK, bias_LPK], lr=rate, fused=True, capturable=device.type == "cuda")

    def learn(batch_B: Tensor) -> None:
        logits_LBM = _logits(x_LBF[:, batch_B], weight_LFPK.flatten(2), bias_LPK.flatten(1))
        logits_LBPK = logits_LBM.unflatten(2, (len(penalties), classes))
        target_LBP = label_B[batch_B][:, None].expand(layers, -1, len(penalties))
        loss = F.cross_entropy(logits_LBPK.flatten(0, 2), target_LBP.flatten()) * layers * len(penalties)
        if any(penalties):
            loss = loss + 0.5 * (weight_LFPK.square().sum((0, 1, 3)) @ penalty_P)
        adam.zero_grad()
        loss.backward()
        adam.step()

    batches = _Batches(learn, images, config.batch_size, device)
    for tensor in (weight_LFPK.data, bias_LPK.data, *(x for state in adam.state.values() for x in state.values())):
        tensor.zero_()  # as they are before what a recording takes to warm up
    steps_per_epoch = data.steps_per_epoch(images, config.batch_size)
    for epoch in range(config.epochs):
        batches.shuffle(torch.tensor(splitmix.key(seed, "probe order", epoch), device=device))
        for number in range(steps_per_epoch):
            progress = (epoch * steps_per_epoch + number) / (config.epochs * steps_per_epoch)
            rate.fill_(config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress)))
            batches.next()
    weight_LFPK, bias_LPK = weight_LFPK.detach().cpu(), bias_LPK.detach().cpu()
    return [(weight_LFPK[:, :, place], bias_LPK[:, place]) for place in range(len(penalties))]


class _Batches:
    """Work on one batch after another; on a GPU that on whole ones is recorded, which is done a few times first."""

    def __init__(self, work: Callable[[Tensor], None], images: int, batch_size: int, device: torch.device) -> None:
        self.work, self.size, self.place, self.whole = work, batch_size, 0, images // batch_size
        self.order_B = torch.arange(images, device=device)
        self.number = torch.zeros(1, dtype=torch.int64, device=device)
        self.repeat: Callable[[], None] | None = None
        if capture.is_possible(device) and self.whole:
            self.repeat = capture.repeatable(self._numbered, device)

    def _numbered(self) -> None:
        order_SB = self.order_B[: self.whole * self.size].view(self.whole, self.size)
        self.work(order_SB.index_select(0, self.number)[0])
        self.number.add_(1).remainder_(self.whole)

    def shuffle(self, key: Tensor) -> None:
        """Begin an epoch in the order that a key gives."""
        self.order_B.copy_(splitmix.permutation(key, len(self.order_B)))
        self.number.zero_()
        self.place = 0

    def next(self) -> None:
        """Work on the next batch; the last one may be short."""
        if self.repeat and self.place < self.whole:
            self.repeat()
        else:
            self.work(self.order_B[self.place * self.size : (self.place + 1) * self.size])
        self.place += 1


def by_lbfgs(
    x_LBF: Float[Tensor, "L B F"],
    label_B: Tensor,
    classes: int,
    config: ProbeConfig,
    seed: int,
    penalties: Sequence[float] = (0.0,),
) -> list[tuple[Tensor, Tensor]]:
    """The cross-check: scikit-learn's multinomial logistic regression, layer by layer; next to no penalty for 0."""
    from sklearn.linear_model import LogisticRegression  # imported here: only this solver waits for it

    return [_by_lbfgs(LogisticRegression, x_LBF.cpu(), label_B.cpu(), classes, penalty) for penalty in penalties]


def _by_lbfgs(
    model_of: type, x_LBF: Float[Tensor, "L B F"], label_B: Tensor, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    weights, biases = [], []
    for x_BF in x_LBF:
        if penalty:
            scale_F, inverse = torch.ones_like(x_BF[0]), 1 / (penalty * len(x_BF))
        else:
            scale_F, inverse = x_BF.std(0).clamp_min(1e-6), 100.0  # better conditioned; undone below
        model = model_of(C=inverse, max_iter=2000).fit((x_BF / scale_F).numpy(), label_B.numpy())
        coefficient_KF, intercept_K = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps the second class's row alone
            coefficient_KF, intercept_K = np.vstack([0 * coefficient_KF, coefficient_KF]), np.append(0, intercept_K)
        weight_FK, bias_K = x_BF.new_zeros(x_BF.shape[1], classes), x_BF.new_full((classes,), -torch.inf)
        weight_FK[:, model.classes_] = torch.from_numpy(coefficient_KF.T).to(x_BF) / scale_F[:, None]
        bias_K[model.classes_] = torch.from_numpy(intercept_K).to(x_BF)
        weights.append(weight_FK)
        biases.append(bias_K)
    return torch.stack(weights), torch.stack(biases)
