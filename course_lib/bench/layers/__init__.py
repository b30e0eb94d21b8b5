"""The cases of the layers."""
