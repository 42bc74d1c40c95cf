"""torch's optimizers, without loading what only `torch.compile` has a use for.

Every method of an optimizer first keeps the compiler from looking inside. To do so it loads the compiler, which takes
as long again as torch itself, in every process that trains. No optimizer is compiled here.

Book: chapter "Training".
"""

from __future__ import annotations

import inspect

import torch


class _Plain:
    """The methods of optimizers as torch has written them, below what wraps them."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))  # which is AdamW's, too


class Adam(_Plain, torch.optim.Adam):
    """`torch.optim.Adam`."""


class AdamW(_Plain, torch.optim.AdamW):
    """`torch.optim.AdamW`: Adam with decoupled weight decay."""
