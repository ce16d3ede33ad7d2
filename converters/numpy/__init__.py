"""The reference as a framework: it runs a model and writes nothing."""
