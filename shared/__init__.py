"""What services share. Knows no service."""
