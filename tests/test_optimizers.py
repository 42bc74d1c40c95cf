"""torch's optimizers without torch's compiler: the same numbers, and nothing loaded that training does not use."""

import subprocess
import sys

import pytest
import torch

from isonb.training import optimizers

PAIRS = [(optimizers.Adam, torch.optim.Adam), (optimizers.AdamW, torch.optim.AdamW)]


def trained(kind, steps, begun=None, **options):
    """A linear map after so many steps, and its optimizer's state: from the beginning, or from what these had been."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    optimizer = kind(linear.parameters(), lr=0.01, eps=1e-7, **options)
    if begun:
        linear.load_state_dict(begun[0])
        optimizer.load_state_dict(begun[1])
    for _ in range(steps):
        linear(torch.ones(1, 5)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert linear.weight.grad is None
    return linear.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("options", [{}, {"fused": True, "weight_decay": 0.1}, {"foreach": True}])
def test_steps_and_their_state_are_torchs_own_to_the_bit(ours, theirs, options):
    weights, state = trained(ours, 4, trained(ours, 3, **options), **options)
    expected, its_state = trained(theirs, 7, **options)
    assert all(torch.equal(weights[name], expected[name]) for name in ("weight", "bias"))
    assert state["param_groups"] == its_state["param_groups"]
    for number, of_weights in its_state["state"].items():
        assert len(of_weights) == 3
        assert all(torch.equal(state["state"][number][name], value) for name, value in of_weights.items())


TRAINED = """
import sys
from isonb import config
from isonb.evidence import figures
from isonb.training import data, finetune, launch, outcome, probes

tiny = {"width": 8, "image_size": 8, "data_fraction": 0.05, "epochs": 1, "evaluation_masks": 1, "probe_epochs": 1}
cell = config.smoke(**tiny, finetune_epochs=1)
execution = config.Execution(device="cpu")
images = data.load(cell.run)
pretrained = launch.pretrain(cell, images, execution)
probed = probes.of_network(pretrained.network, images, cell.probe, pretrained.progress.precision)
finetune.tune(cell, images, pretrained, execution)
print({"torch._dynamo", "sympy", "scipy.stats", "sklearn"} & {*sys.modules})
"""


@pytest.mark.slow
def test_training_probing_and_fine_tuning_load_no_compiler():
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stdout + done.stderr
