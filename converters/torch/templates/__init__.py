"""Classes copied as text into emitted PyTorch modules: layers that torch lacks, and saving."""
