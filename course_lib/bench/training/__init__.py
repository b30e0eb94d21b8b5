"""The cases of the training methods."""
