"""What one client may do now, and what it is told of others."""
