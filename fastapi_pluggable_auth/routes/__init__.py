"""HTTP only: paths, bodies and statuses. The rules are in `flows`."""
