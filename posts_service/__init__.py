"""Posts, likes and comments; publishes events through an outbox."""
