"""Models that a port has written, read back: folders, and live objects of emitted classes."""
