"""The commands of `fastapi-pluggable-auth`, a module each."""
