"""Where a process listens: an address of its own, or one that it shares with its siblings."""

import asyncio
import ctypes
import socket
import struct

import structlog

log = structlog.get_logger(__name__)

BACKLOG = 2048
LAST_HANDSHAKES_SECONDS = 0.2
"""For handshakes that have begun to end, when a process leaves an address to its siblings."""

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
    """The address is taken or not ours; ``str`` is the sentence for the operator."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address now, so that a taken one is a sentence and not a failed server.

    Port 0 takes a free one.

    Raises:
        CannotListen: the address is taken or not ours.
    """
    return _taken(host, port, listening=True)


def reserve(host: str, port: int) -> socket.socket:
    """Take the address for processes that will share it; nobody can connect to this socket.

    Raises:
        CannotListen: the address is taken or not ours.
    """
    # Those who share an address let any of their user join: so first ask for all of it.
    with listen(host, port) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved = share(host, alone.getsockname()[1])
    # Else somebody who reuses addresses could take it before the first of ours listens.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def share(host: str, port: int) -> socket.socket:
    """A place of one's own at an address that is reserved; who serves on it makes it listen.

    Raises:
        CannotListen: the address is another's.
    """
    return _taken(host, port, shared=True)


async def leave_to_siblings(sockets: list[socket.socket]) -> None:
    """Prepare to close sockets that share their address, so that nobody is reset.

    What is in a listening socket's queue is reset with it. So first no further handshake may
    begin: who tries asks again after a second, as TCP does, and finds a sibling. The loop
    meanwhile accepts those that had begun.
    """
    shared = [each for each in sockets if each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)]
    if not shared:
        return
    for each in shared:
        _drop_newcomers(each)
    await asyncio.sleep(LAST_HANDSHAKES_SECONDS)


def _taken(host: str, port: int, *, shared: bool = False, listening: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, port))
        if listening:
            taken.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        taken.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from error
    taken.setblocking(False)
    return taken


def _drop_newcomers(listening: socket.socket) -> None:
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    place = ctypes.create_string_buffer(program)
    description = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(place))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)
    except OSError as error:  # then a few are reset, and come again
        log.warning("newcomers_not_held_back", reason=str(error))
