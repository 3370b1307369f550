"""`/ws/chat`, the plain JSON protocol."""
