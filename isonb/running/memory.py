"""How much memory a training step needs, and on a GPU a whole cell, counted before it is run.

Counted are the weights, their gradients, Adam's two averages, and what the step keeps for its backward pass, with an
allowance for what comes and goes. On a GPU a recorded step keeps that for good, beside the images, while masks are
counted and images evaluated; or else features and probes lie there. torch is imported only where something is counted.

Book: chapter "Training".
"""

from __future__ import annotations

import functools
import math

from isonb import features
from isonb.config import Cell, RunConfig

BYTES_PER_PARAMETER = 16  # float32 weight, gradient, and Adam's two averages
BYTES_PER_IMAGE = 17  # on a GPU, beside its pixels: two places in the order, and whether it is one
MASKS_AT_ONCE = 4  # numbers of 64 bits for each unit, while masks are drawn
TOKENS_AT_ONCE = 4  # of float32 for each position and channel, while images are evaluated
BYTES_PER_LOGIT = 10  # there: as it comes in bfloat16, in float32, and its logarithm
BYTES_PER_FEATURE = 20  # of the layer that is whitened: in float32, and twice in float64
TRANSIENT = 1.8  # measured peak over what is kept: gradients under way, and what the allocator does not give back


@functools.cache
def training_bytes(run: RunConfig, batch_size: int, precision: str, on_gpu: bool = False) -> int:
    """Bytes of weights, gradients, Adam's state, and what one training step of that batch keeps for its backward pass.

    What is kept is counted on two images of a CPU, once for each storage however often it is kept. On a GPU autocast
    hands a LayerNorm float32, as it does not on a CPU.
    """
    import torch

    from isonb.models import network as networks
    from isonb.models import objectives
    from isonb.training import evaluate

    network = networks.build_network(run, features.even_colours())
    for layer in network.modules() if on_gpu and precision == "bfloat16" else ():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
    index_B = torch.arange(2)
    pixels_BNC = torch.zeros(2, run.image_size**2, 3, dtype=torch.uint8)
    own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), evaluate.autocast(torch.device("cpu"), precision):
        is_scored_BNC = objectives.sample_scored(run, index_B, "training")
        objectives.summed_loss(run, network, pixels_BNC, is_scored_BNC, network.palette)
    shapes = {p.shape for p in network.parameters()}  # a bfloat16 copy of a weight does not grow with the batch
    growing = [x for address, x in kept.items() if address not in own and x.shape not in shapes]
    activations = sum(x.untyped_storage().nbytes() for x in growing) / len(index_B)
    return networks.parameters(network) * BYTES_PER_PARAMETER + round(TRANSIENT * activations * batch_size)


def gpu_bytes(cell: Cell, batch_size: int, precision: str, images: int) -> int:
    """Bytes of a GPU's memory that a cell needs with so many training images, at training or at probing.

    All images are taken to lie there, as they do where they fit.
    """
    run = cell.run.model_copy(update={"seed": 0, "epochs": 1, "learning_rate": 0.01})  # what memory does not depend on
    held = images * (run.image_size**2 * features.CHANNELS + BYTES_PER_IMAGE)
    training = training_bytes(run, batch_size, precision, on_gpu=True) + held + _between_steps(run)
    return max(training, _at_probing(cell, images))


def _between_steps(run: RunConfig) -> int:
    """While masks are counted at the beginning of an epoch, or images evaluated at its end."""
    import torch

    from isonb.models import fixed
    from isonb.models import network as networks
    from isonb.training import evaluate

    positions = run.image_size**2
    masks = fixed.AT_ONCE * positions * (1 if run.mask_unit == "pixel" else features.CHANNELS) * 8 * MASKS_AT_ONCE
    logits = networks.share_of_positions(run) * math.prod(networks.outputs(run)) * BYTES_PER_LOGIT
    of_position = logits + run.width * 4 * TOKENS_AT_ONCE
    return max(masks, round(evaluate.scored_at_once(run, torch.device("cuda")) * positions * of_position))


def _at_probing(cell: Cell, images: int) -> int:
    """The features of as many layers as are fitted together, and of one that is whitened, of the larger pooling."""
    from isonb.training import probe, room

    wide = cell.probe if cell.probe.pooling == "flatten" else cell.probe.model_copy(update={"pooling": "grid4"})
    layers, of_layer = cell.run.depth + 1, probe.feature_bytes(cell.run, wide, images) // (cell.run.depth + 1)
    together = max(group.stop - group.start for group in room.groups(layers, of_layer))
    return together * of_layer + BYTES_PER_FEATURE // 4 * of_layer
