"""Wrong and right ports of models, made without the code that they test."""
