"""Made by `tortoise makemigrations`."""
