"""Which Keras variable holds what. Gates i f g o; Keras's documents call g the candidate c."""

from xlstm.layout import DENSE, FOLD, LSTM, SIMPLE_RNN, Slot, Table

TABLES: dict[str, Table] = {
    # keras.src.layers.rnn.lstm.LSTMCell.build
    "LSTM": Table(
        LSTM,
        (
            Slot("kernel", "kernel", "i(gh)", gates="ifgo"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="ifgo"),
            Slot("bias", "bias", "(gh)", gates="ifgo", at={"s": FOLD}),
        ),
    ),
    # Keras 1, consume_less="cpu" or "mem": twelve arrays, the candidate second and called c
    "LSTM of Keras 1": Table(
        LSTM,
        tuple(
            Slot(f"{letter}_{'c' if gate == 'g' else gate}", tensor, axes, at={"g": gate, **side})
            for gate in "igfo"
            for letter, tensor, axes, side in (
                ("W", "kernel", "ih", {}),
                ("U", "recurrent", "jh", {}),
                ("b", "bias", "h", {"s": FOLD}),
            )
        ),
    ),
    # Keras 1, consume_less="gpu": three arrays
    "LSTM of Keras 1, fused": Table(
        LSTM,
        (
            Slot("W", "kernel", "i(gh)", gates="ifgo"),
            Slot("U", "recurrent", "j(gh)", gates="ifgo"),
            Slot("b", "bias", "(gh)", gates="ifgo", at={"s": FOLD}),
        ),
    ),
    # cuDNN keeps a (units, inputs) matrix for each gate; CuDNNLSTM shows its memory as (inputs,
    # units). It has two biases.
    "CuDNNLSTM": Table(
        LSTM,
        (
            Slot("kernel", "kernel", "x(gy)", gates="ifgo", recut=("xy", "hi")),
            Slot("recurrent_kernel", "recurrent", "h(gj)", gates="ifgo"),
            Slot("bias", "bias", "(sgh)", gates="ifgo"),
        ),
    ),
    # keras.src.layers.rnn.simple_rnn.SimpleRNNCell.build
    "SimpleRNN": Table(
        SIMPLE_RNN,
        (
            Slot("kernel", "kernel", "ih"),
            Slot("recurrent_kernel", "recurrent", "jh"),
            Slot("bias", "bias", "h", at={"s": FOLD}),
        ),
    ),
    "SimpleRNN of Keras 1": Table(
        SIMPLE_RNN,
        (
            Slot("W", "kernel", "ih"),
            Slot("U", "recurrent", "jh"),
            Slot("b", "bias", "h", at={"s": FOLD}),
        ),
    ),
    "Dense of Keras 1": Table(DENSE, (Slot("W", "kernel", "io"), Slot("b", "bias", "o"))),
    # keras.src.layers.core.dense.Dense.build
    "Dense": Table(DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o"))),
}

FORMS: dict[str, tuple[str, ...]] = {
    "LSTM": ("LSTM", "CuDNNLSTM", "LSTM of Keras 1", "LSTM of Keras 1, fused"),
    "SimpleRNN": ("SimpleRNN", "SimpleRNN of Keras 1"),
    "Dense": ("Dense", "Dense of Keras 1"),
}
"""Kind of layer -> its tables in every era; names and shapes say which one a file holds."""

DEFAULT = {"LSTM": "LSTM", "SimpleRNN": "SimpleRNN", "Dense": "Dense"}
