"""Classes copied as text into emitted PyTorch modules, for layers that torch does not have."""
