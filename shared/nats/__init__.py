"""One connection to NATS."""
