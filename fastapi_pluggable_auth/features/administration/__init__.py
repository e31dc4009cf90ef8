"""Administration of the accounts of others: by routes, in scripts, as them, and from files."""
