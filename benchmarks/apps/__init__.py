"""The apps that are measured, one module each. `DATABASE_URL` and `JWT_SECRET` come from the environment."""
