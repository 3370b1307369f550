"""Streams on NATS: publishing into them, reading them, following them."""
