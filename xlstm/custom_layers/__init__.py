"""Layers of users, registered by name: `register` checks them, `xlstm.ir.registered` keeps them."""
