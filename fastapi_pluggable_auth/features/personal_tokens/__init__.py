"""Personal access tokens: for programs that act in the name of their user."""
