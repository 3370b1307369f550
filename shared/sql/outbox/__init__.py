"""The outbox: what a service tells others, committed with the change that it tells of."""
