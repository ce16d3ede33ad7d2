"""Modules that import Flax: build, run and count modules, and compute gradients."""
