"""How much memory a training step needs, counted before it is run.

Counted are the weights, their gradients, Adam's two averages, and what the step keeps for its backward pass, with an
allowance for what comes and goes. torch is imported only where something is counted.

Book: chapter "Training".
"""

from __future__ import annotations

import functools

from isonb import features
from isonb.config import RunConfig

BYTES_PER_PARAMETER = 16  # float32 weight, gradient, and Adam's two averages
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
