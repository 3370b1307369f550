"""Sockets: frames, one connection, the sweep, the drain. Knows no channel and no JSON."""
