"""The server API over HTTP, which backend services use without a connection of their own."""
