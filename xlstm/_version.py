"""The version, in a separate module so that a build needs no import of the rest."""

VERSION = "0.2.0"
