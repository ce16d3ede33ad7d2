"""The half that imports Keras: builds, runs and counts models, and takes gradients."""
