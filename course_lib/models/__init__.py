"""Small whole networks, assembled from layers."""
