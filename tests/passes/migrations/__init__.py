"""The migrations of the host's own label."""
