"""The outbox: messages for the bus, committed together with the changes that they report."""
