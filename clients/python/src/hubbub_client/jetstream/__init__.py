"""JetStream: asking it, and publishing into it."""
