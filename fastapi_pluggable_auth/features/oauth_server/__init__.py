"""An OAuth 2.1 authorization server: users let other applications and agents use the app in their name."""
