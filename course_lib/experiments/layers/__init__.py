"""Trained claims of the chapters in ``layers``."""
