"""PyTorch: `adapter` lists the other modules, `slots` the place of every tensor.

Only `read` and `live` import torch.
"""
