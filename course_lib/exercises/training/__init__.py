"""The exercises on training, a file a chapter."""
