"""Trained claims of the chapters in ``training``."""
