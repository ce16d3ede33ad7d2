"""Modules that import torch: build, run and count modules, and compute gradients."""
