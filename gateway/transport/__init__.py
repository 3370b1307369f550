"""Sockets: the handshake, frames, one connection, the sweep, the drain."""
