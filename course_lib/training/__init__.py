"""What fits weights: the training loop first, then methods."""
