"""Mail: what is sent (outbox), with which link (tokens), as what text (sender), and who sends it
(provider)."""
