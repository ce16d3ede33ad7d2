"""Classes copied as text into emitted Flax modules. They import Flax; xlstm never does by them."""
