"""Addresses as connections and attempts are counted by them: an IPv6 network is one."""

import ipaddress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

_IPV4_MAPPED = bytes(10) + b"\xff\xff"


def network_of(address: str) -> str | None:
    """The address itself; for IPv6 its network of 64 bits, since one host has all of it.

    An IPv4-mapped IPv6 address counts as the IPv4 address. None if it is not an address.
    """
    try:  # the module `ipaddress` takes ten times as long
        if ":" not in address:
            inet_pton(AF_INET, address)
            return address
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return None
    if packed.startswith(_IPV4_MAPPED):
        return inet_ntop(AF_INET, packed.removeprefix(_IPV4_MAPPED))
    return inet_ntop(AF_INET6, packed[:8] + bytes(8)) + "/64"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what has this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
