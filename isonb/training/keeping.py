"""A trained network out of the file that keeps it, and on its own: `isonb.load`.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from isonb import places
from isonb.models import network as networks
from isonb.training import checkpoint


def load(kept: str | os.PathLike[str]) -> networks.IsotropicNetwork:
    """The network that a file keeps, ready to be asked: `load("image-gpt.safetensors")`.

    `kept` is the file, a folder of checkpoints of a finished run, or the name of a run, such as that of its page. Where
    a run's own weights are not at hand, those that come with the project are taken.
    Raises `CheckpointError` where there is no such file, and for one that is damaged or something else.
    """
    config, tensors = checkpoint.read_network(find(kept))
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced at once
        network = networks.IsotropicNetwork(config)
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def find(kept: str | os.PathLike[str]) -> Path:
    """The file that is meant. Raises `CheckpointError` where there is none, or more than one."""
    path = Path(kept)
    if path.is_file():
        return path
    if path.is_dir():
        found = (
            [path / checkpoint.FINAL] if (path / checkpoint.FINAL).exists() else [*path.glob(f"*/{checkpoint.FINAL}")]
        )
        where = f"in {path}"
    else:
        is_name = len(path.parts) == 1 and path.name not in ("", "..") and not {*path.name} & {*"*?[]"}
        runs = places.runs_folder("")
        ours = places.NETWORKS / f"{path.name}.safetensors"
        found = [*runs.glob(f"*/checkpoints/{path.name}/*/{checkpoint.FINAL}")] if is_name else []
        found = found or [ours] * (is_name and ours.is_file())
        where = f"of that name, nor are there weights of such a run below {runs}"
    if not found:
        raise checkpoint.CheckpointError(
            f"{kept} keeps no network: there is no file {where}; name one, or run the cell."
        )
    if len(found) > 1:
        names = " and ".join(str(one) for one in sorted(found))
        raise checkpoint.CheckpointError(
            f"{kept} may be any of {len(found)} networks, {names}: name one of these files."
        )
    return found[0]
