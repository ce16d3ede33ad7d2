"""The reference as a framework of its own: it runs a model and writes nothing."""
