"""Listening sockets: on an address of one process, or on one that several workers share."""

import asyncio
import ctypes
import socket
import struct

import structlog

log = structlog.get_logger(__name__)

BACKLOG = 2048
LAST_HANDSHAKES_SECONDS = 0.2
"""For TCP handshakes to complete, when a worker leaves an address to its siblings."""

_SO_ATTACH_FILTER = 26  # of Linux; the socket module doesn't name it
_LOAD_BYTE, _SKIP_UNLESS_ANY, _VERDICT = 0x30, 0x45, 0x06
_FLAGS_OF_TCP, _SYN = 13, 0x02
_DROP_SYN = (
    (_LOAD_BYTE, 0, 0, _FLAGS_OF_TCP),
    (_SKIP_UNLESS_ANY, 0, 1, _SYN),
    (_VERDICT, 0, 0, 0),
    (_VERDICT, 0, 0, 0xFFFFFFFF),
)


class CannotListen(Exception):
    """The address is taken or not ours; ``str`` is the message for the operator."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen now, so that a taken address is an error message and not a failed server.

    Port 0 is a free one.

    Raises:
        CannotListen: the address is taken or not ours.
    """
    return _bound(host, port, listening=True)


def reserve(host: str, port: int) -> socket.socket:
    """Bind an address for processes that will share it; nobody can connect to this socket.

    Raises:
        CannotListen: the address is taken or not ours.
    """
    # With SO_REUSEPORT any process of the same user may join: so first bind without it.
    with listen(host, port) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved = share(host, alone.getsockname()[1])
    # Else another process with SO_REUSEADDR could take it before our first worker listens.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def share(host: str, port: int) -> socket.socket:
    """A worker's own socket at a reserved address; the server makes it listen.

    Raises:
        CannotListen: the address is another's.
    """
    return _bound(host, port, shared=True)


async def leave_to_siblings(sockets: list[socket.socket]) -> None:
    """Prepare to close sockets that share their address, so that no connection is reset.

    Closing a listening socket resets the connections in its queue. So first no new handshake may
    begin: the first packet is dropped, TCP sends it again after a second, and it reaches a sibling.
    Meanwhile the loop accepts the connections in the queue.
    """
    shared = [each for each in sockets if each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)]
    if not shared:
        return
    for each in shared:
        _drop_newcomers(each)
    await asyncio.sleep(LAST_HANDSHAKES_SECONDS)


def _bound(host: str, port: int, *, shared: bool = False, listening: bool = False) -> socket.socket:
    if not host:  # to the system it is every address
        raise CannotListen(f"cannot listen on port {port}: the host is empty")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
        if listening:
            bound.listen(BACKLOG)
    except (OSError, OverflowError, TypeError) as error:  # the last is of a name that is none
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from error
    bound.setblocking(False)
    return bound


def _drop_newcomers(listening: socket.socket) -> None:
    """Drop first packets (SYN) by a BPF program in the kernel."""
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program)
    description = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)
    except OSError as error:  # then a few connections are reset, and their peers connect again
        log.warning("newcomers_not_held_back", reason=str(error))
