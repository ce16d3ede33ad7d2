"""Fuzzing of the readers: mutated model files, each read in a child process with limits."""
