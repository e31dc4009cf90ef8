"""How requests are read and answered: what all routes share."""
