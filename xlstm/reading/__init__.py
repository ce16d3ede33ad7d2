"""Reads any source as a Model: files, ported folders, live objects of emitted classes."""
