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
    # keras.src.layers.rnn.simple_rnn.SimpleRNNCell.build
    "SimpleRNN": Table(
        SIMPLE_RNN,
        (
            Slot("kernel", "kernel", "ih"),
            Slot("recurrent_kernel", "recurrent", "jh"),
            Slot("bias", "bias", "h", at={"s": FOLD}),
        ),
    ),
    # keras.src.layers.core.dense.Dense.build
    "Dense": Table(DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o"))),
}

DEFAULT = {"LSTM": "LSTM", "SimpleRNN": "SimpleRNN", "Dense": "Dense"}
