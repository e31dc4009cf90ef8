"""Small, pure modules that each hide one library; none knows the database."""
