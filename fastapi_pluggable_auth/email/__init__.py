"""Mail: what is sent (outbox), with which link (tokens), as what text (sender), by whom (provider)."""
