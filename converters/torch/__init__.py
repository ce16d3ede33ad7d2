"""PyTorch: `adapter` names the rest, `slots` says where every tensor goes.

Only `read` and `live` import torch.
"""
