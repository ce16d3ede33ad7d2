"""The half that imports Flax: builds, runs and counts modules, and takes gradients."""
