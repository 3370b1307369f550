"""What makes each protocol what it is."""
