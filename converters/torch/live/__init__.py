"""The half that imports torch: builds, runs and counts modules, and takes gradients."""
