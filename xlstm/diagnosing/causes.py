"""The mistakes that `diagnose` knows by name: the ids that its findings carry."""

CAUSES: dict[str, str] = {
    # which number goes where
    "gate-order": "the gates of a tensor are in another framework's order",
    "transposed": "a matrix (of every gate, or the whole) is transposed",
    "reshaped": "a matrix was reshaped where it had to be transposed",
    "swapped-tensors": "two tensors of one layer changed places",
    "swapped-layers": "two layers of equal shape have each other's weights",
    "swapped-halves": "the forward and the backward half have each other's weights",
    "flipped-kernel": "the windows of a convolution run from their end",
    # biases
    "lost-bias": "a bias, or one of two, is missing (zeros)",
    "doubled-bias": "a bias is added twice",
    "misplaced-bias": "a bias lies on the other product (input side for recurrent side)",
    "forget-bias": "1 is added to the forget gate's bias, which holds it already",
    # the layer's function
    "hard-sigmoid": "one hard_sigmoid for the other, or for sigmoid",
    "gate-activation": "another activation of the gates",
    "activation": "another activation",
    "softmax-axis": "softmax over another axis, such as the batch or time",
    "activation-outside": "a recurrent layer's activation applied to its output, not inside it",
    "extra-activation": "one more activation after a layer",
    "gelu": "gelu exact for approximate, or the other way round",
    "slope": "another slope of LeakyReLU",
    "reset-after": "GRU's reset gate applied before the product for after it, or the reverse",
    "update-gate": "GRU's z for 1 - z",
    "epsilon": "another epsilon of a normalisation",
    "momentum": "another momentum of BatchNorm, which acts in training only",
    "batchnorm-mode": "BatchNorm in training mode: statistics of the batch for those kept",
    "dropout-on": "dropout left on: two runs differ",
    "not-repeatable": "two runs differ, dropout or not",
    "option": "another option of the layer",
    # sequences
    "go-backwards": "a layer reads the sequence in the other direction",
    "unturned-backward": "the backward half's output is not turned round in time again",
    "swapped-outputs": "the halves' outputs are joined in the other order",
    "last-of-backward": "out[:, -1] taken for the backward half's last output",
    "merge-mode": "another way to join the halves",
    "first-step": "the first step's output taken for the last one's, or the reverse",
    "shifted-output": "outputs are one step late or early",
    "state-lost": "a loop does not hand its state, or a part of it, on to the next step",
    "batch-first": "batch and time are taken for each other",
    "initial-state": "the initial state is not used",
    "mask-ignored": "the mask is not obeyed",
    "mask-zeroed": "masked steps give zeros where the output is held, or the reverse",
    # around them
    "channels-order": "channels first flattened or reshaped for channels last",
    "embedding-offset": "row numbers of an embedding are off by one",
    "missing-layer": "a layer without weights is left out",
    # numbers
    "rounded-weights": "the weights were rounded to a lower precision",
    "other-weights": "numbers in a tensor are other ones",
    "float32": "a number is rounded to float32 on the way: a note, no mistake",
    # what can be compared at all
    "inputs": "the models have different inputs",
    "outputs": "the models have another number of outputs",
    "shape": "an output has another shape",
    "nan": "NaN or infinity on one side only",
    "failed": "the suspect fails where the truth does not",
}
"""Stable id -> what it says. `Finding.cause` is always one of these."""
