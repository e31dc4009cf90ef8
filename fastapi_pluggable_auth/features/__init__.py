"""Features: what not every app needs, each added by one value."""
