"""What the tests of ports to PyTorch share."""

import copy
import pickle
import warnings

import torch

from xlstm.verification.reconcile import generated


def tensors_of(source, dtype="float32"):
    """The generated inputs of a model as tensors; masks stay what they are."""
    arrays = generated.make(source)
    return [torch.from_numpy(x if x.dtype == bool else x.astype(dtype)) for x in arrays]


def flat(outputs):
    """The outputs of a port as a list."""
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def exported(ported, inputs, **options):
    """An export, as a module."""
    # torch 2.13: the guards of an earlier export of `scan` narrow the free sizes of this one
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of themselves
        return torch.export.export(ported, tuple(inputs), **options).module()


def check_tools(ported, inputs, *others):
    """Copies and pickles of a port give what it gives, bit for bit; scripts and exports nearly.

    Own cells fill buffers when they are called, and a graph has its own order of operations.
    """
    same = [
        *others,
        copy.deepcopy(ported),
        pickle.loads(pickle.dumps(ported)),  # our own object, made by the caller
    ]
    want = flat(ported(*inputs))
    for other in same:
        for mine, own in zip(flat(other(*inputs)), want, strict=True):
            assert torch.equal(mine, own)
    for graph in (torch.jit.script(ported), exported(ported, inputs)):
        for mine, own in zip(flat(graph(*inputs)), want, strict=True):
            limit = 16 * torch.finfo(own.dtype).eps if own.is_floating_point() else 0
            torch.testing.assert_close(mine, own, rtol=limit, atol=limit)
