"""A stand-in for CUDA graphs on a CPU: operators are noted while work is done once, without an effect, then repeated.

As on a GPU a repetition works on the very tensors that it was noted with, in the places where they were, and runs no
Python. What would wait for the device or copy from the host while it is recorded is refused, as CUDA refuses it.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from isonb.training import capture

aten = torch.ops.aten
WAITING = {  # the results' shapes or values have to be known to the host, or come from it
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten.lift_fresh,
    aten._unique2, aten.repeat_interleave,
}  # fmt: skip
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class NotRecordable(RuntimeError):
    """What CUDA says of an operation that is not permitted when a stream is capturing."""


class Recording(TorchDispatchMode):
    """Notes every operator with its tensors. At its end all memory that was there before is as it was."""

    def __init__(self):
        super().__init__()
        self.calls, self.own, self.before, self.held = [], set(), {}, []

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        named = named or {}
        kind = operator.overloadpacket
        indices = tree_flatten(arguments[1])[0] if kind in INDEXING else ()
        if kind in WAITING or any(x is not None and x.dtype == torch.bool for x in indices):
            raise NotRecordable(f"operation not permitted when stream is capturing: {operator}")
        self._save(operator, arguments, named)
        outputs = operator(*arguments, **named)
        given = {x.untyped_storage()._cdata for x in _tensors((arguments, named))}
        for x in _tensors(outputs):
            if x.untyped_storage()._cdata not in given:
                self.own.add(x.untyped_storage()._cdata)
                self.held.append(x.untyped_storage())  # so that nobody else is given this memory
        self.calls.append((operator, arguments, named, outputs))
        return outputs

    def _save(self, operator, arguments, named):
        """Keep what an operator is about to change, if it was there before."""
        for place, argument in enumerate(operator._schema.arguments):
            value = arguments[place] if place < len(arguments) else named.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write:
                for x in _tensors(value):
                    storage = x.untyped_storage()
                    if storage._cdata not in self.own and storage._cdata not in self.before:
                        self.before[storage._cdata] = (storage, storage.clone())

    def undo(self):
        for storage, content in self.before.values():
            storage.copy_(content)

    @torch.no_grad()
    def repeat(self):
        for operator, arguments, named, outputs in self.calls:
            again = operator(*tree_map_only(torch.Tensor, torch.Tensor.detach, arguments), **named)
            for old, new in zip(_tensors(outputs), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)


class Graph:
    """In the place of `torch.cuda.CUDAGraph`; all that were made are kept, with how often each was replayed."""

    made = ()

    def __init__(self):
        self.recording, self.replays = Recording(), 0
        Graph.made = (*Graph.made, self)

    def replay(self):
        self.replays += 1
        self.recording.repeat()


@contextlib.contextmanager
def _record(graph):
    try:
        with graph.recording:
            yield
    finally:
        graph.recording.undo()


def on_cpu(monkeypatch):
    """Have everything that a GPU would record recorded on the CPU; steps are traced by nobody. Returns the graphs."""
    Graph.made = ()
    monkeypatch.setattr(capture, "is_possible", lambda device: True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", _record)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda work, **options: work)
    return lambda: Graph.made


class _Stream:
    def __init__(self, device):
        pass

    def wait_stream(self, other):
        pass


def _tensors(tree):
    return [x for x in tree_flatten(tree)[0] if isinstance(x, torch.Tensor)]
