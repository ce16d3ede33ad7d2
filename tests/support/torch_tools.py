"""What the tests of ports to PyTorch share."""

import copy
import pickle

import torch

from xlstm.verification.reconcile import generated


def tensors_of(source, dtype="float32"):
    """The generated inputs of a model as tensors; masks stay what they are."""
    arrays = generated.make(source)
    return [torch.from_numpy(x if x.dtype == bool else x.astype(dtype)) for x in arrays]


def flat(outputs):
    """The outputs of a port as a list."""
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def check_tools(ported, inputs, *others):
    """Copies, pickles, scripts and exports of a port give what it gives, bit for bit."""
    same = [
        *others,
        copy.deepcopy(ported),
        pickle.loads(pickle.dumps(ported)),  # our own object, made by the caller
        torch.jit.script(ported),
        torch.export.export(ported, tuple(inputs)).module(),
    ]
    want = flat(ported(*inputs))
    for other in same:
        for mine, own in zip(flat(other(*inputs)), want, strict=True):
            assert torch.equal(mine, own)
