"""The library on several workers and servers, which share, conflict, and fail over. Each scenario starts
its own; `load` drives the app, and judges what became of all that it had acknowledged."""
