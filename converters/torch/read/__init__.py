"""Reads traced PyTorch modules into a graph; imports torch.

`graph` traces a module and walks it; `values` has the tensors of the walk. The other modules
have a rule for each module, function or method, by family.
"""
