"""Layers: ``nn.Module``s and the functions under them, a file per family."""
