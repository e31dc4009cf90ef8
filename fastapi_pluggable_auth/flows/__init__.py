"""The use cases, free of HTTP: call them from a route, a script or a test. They raise `AuthError`."""
