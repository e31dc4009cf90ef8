"""Two-factor authentication by an authenticator app, with recovery codes. Every app has it."""
