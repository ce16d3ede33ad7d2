"""Modules that import Keras: build, run and count models, and compute gradients."""
