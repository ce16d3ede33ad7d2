"""Which PyTorch parameter holds what."""

from xlstm.layout import DENSE, GRU, LSTM, SIMPLE_RNN, Slot, Table

TABLES: dict[str, Table] = {
    # torch.nn.LSTM: weight_ih_l[k] is (W_ii|W_if|W_ig|W_io)
    "LSTM": Table(
        LSTM,
        (
            Slot("weight_ih_l0", "kernel", "(gh)i", gates="ifgo"),
            Slot("weight_hh_l0", "recurrent", "(gh)j", gates="ifgo"),
            Slot("bias_ih_l0", "bias", "(gh)", gates="ifgo", at={"s": 0}),
            Slot("bias_hh_l0", "bias", "(gh)", gates="ifgo", at={"s": 1}),
        ),
    ),
    # torch.nn.GRU: weight_ih_l[k] is (W_ir|W_iz|W_in)
    "GRU": Table(
        GRU,
        (
            Slot("weight_ih_l0", "kernel", "(gh)i", gates="rzn"),
            Slot("weight_hh_l0", "recurrent", "(gh)j", gates="rzn"),
            Slot("bias_ih_l0", "bias", "(gh)", gates="rzn", at={"s": 0}),
            Slot("bias_hh_l0", "bias", "(gh)", gates="rzn", at={"s": 1}),
        ),
    ),
    # torch.nn.RNN
    "RNN": Table(
        SIMPLE_RNN,
        (
            Slot("weight_ih_l0", "kernel", "hi"),
            Slot("weight_hh_l0", "recurrent", "hj"),
            Slot("bias_ih_l0", "bias", "h", at={"s": 0}),
            Slot("bias_hh_l0", "bias", "h", at={"s": 1}),
        ),
    ),
    # torch.nn.Linear
    "Linear": Table(DENSE, (Slot("weight", "kernel", "oi"), Slot("bias", "bias", "o"))),
}

DEFAULT = {"LSTM": "LSTM", "SimpleRNN": "RNN", "Dense": "Linear"}
