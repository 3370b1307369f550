"""A connection to NATS."""
