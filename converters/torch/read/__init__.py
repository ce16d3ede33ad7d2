"""Reads traced PyTorch modules into a graph; imports torch.

`graph` traces a module and walks it; `values` is what it knows of a tensor on the way. The others
have a rule for each module, function or method, by family.
"""
