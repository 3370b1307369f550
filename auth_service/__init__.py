"""Users, sessions, tokens and keys; publishes events through an outbox."""
