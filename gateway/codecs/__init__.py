"""Protocols: bytes to commands, and publications to frames. Pure."""
