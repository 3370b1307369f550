"""SQL databases, as the outbox uses them."""
