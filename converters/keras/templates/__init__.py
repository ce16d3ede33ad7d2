"""Classes copied as text into emitted Keras modules, for layers that Keras does not have."""
