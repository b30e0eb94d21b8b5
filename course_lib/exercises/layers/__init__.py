"""The exercises on layers, a file a chapter."""
