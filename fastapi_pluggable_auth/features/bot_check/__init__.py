"""A check that somebody is human, where anybody may begin something."""
