"""The kinds of error, and by which names of `xlstm.diagnosis.CAUSES` each is rightly called."""

from __future__ import annotations

ACTIVATION = ("activation", "gate-activation")

CAUSES: dict[str, tuple[str, ...]] = {
    "gates permuted": ("gate-order",),
    "gates permuted in some tensors": ("gate-order",),
    "gates of one bias permuted": ("gate-order",),
    "gates permuted, biases added up": ("gate-order",),
    "kernel transposed": ("transposed",),
    "recurrent transposed": ("transposed",),
    "kernel reshaped, not transposed": ("reshaped",),
    "recurrent reshaped, not transposed": ("reshaped",),
    "bias lost": ("lost-bias",),
    "bias doubled": ("doubled-bias",),
    # the bias of the gate before it is the gates' order in that tensor
    "bias misplaced": ("misplaced-bias", "swapped-tensors", "gate-order"),
    "forget bias added twice": ("forget-bias",),
    "halves swapped": ("swapped-halves", "swapped-outputs", "swapped-layers"),
    "half reversed": ("unturned-backward", "go-backwards"),
    "direction": ("go-backwards",),
    "out[:, -1] of the backward half": ("last-of-backward",),
    "merge mode": ("merge-mode",),
    "mask ignored": ("mask-ignored",),
    "mask zeroed": ("mask-zeroed",),
    "batch_first": ("batch-first",),
    "hard_sigmoid": ("hard-sigmoid",),
    "hard_sigmoid without its clip": ("hard-sigmoid", "gate-activation", "activation"),
    "gate activation": ("gate-activation", "hard-sigmoid"),
    "activation": ("activation", "gelu"),
    # each is called as it is in any other port
    "arrays of a cell of nn.Linear": (),
    "softmax axis": ("softmax-axis",),
    "activation outside": ("activation-outside",),
    "extra activation": ("extra-activation",),
    "state lost": ("state-lost",),
    # one step late at the end is the last step but one
    "output late": ("shifted-output", "first-step"),
    "batch_first of one half": ("batch-first",),
    "mask of one half ignored": ("mask-ignored",),
    "reset_after": ("reset-after",),
    "BatchNorm or LayerNorm eps": ("epsilon",),
    "BatchNorm momentum": ("momentum",),
    "BatchNorm mode": ("batchnorm-mode", "dropout-on"),
    "LeakyReLU slope": ("slope",),
    "channels order": ("channels-order", "reshaped"),
    "kernel's channels reversed": ("channels-order", "other-weights", "reordered-weights"),
    "dropout left on": ("dropout-on",),
    "one bias off by 1e-6": ("other-weights",),
    "one weight off by 1 to 3 ULP": ("other-weights", "rounded-weights"),
}
"""Kind of error -> the causes that name it."""
