"""The identities that services exchange, as distinct types."""

from typing import NewType

UserId = NewType("UserId", int)
SessionId = NewType("SessionId", str)
"""A sign-in: the `sid` of every token that descends from it."""
PostId = NewType("PostId", int)
ConnectionId = NewType("ConnectionId", str)
"""One open socket of one tab; dies with it."""
NodeId = NewType("NodeId", str)
"""One life of one gateway process, as presence knows it."""
ChannelName = NewType("ChannelName", str)
"""A checked channel name; made only by `shared.contracts.channels`."""
