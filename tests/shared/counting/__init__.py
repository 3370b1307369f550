"""The smallest service with an outbox, as far as its database goes: it counts, and tells of it."""
