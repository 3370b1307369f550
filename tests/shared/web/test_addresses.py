"""Whom an address stands for."""

import pytest

from shared.web.addresses import network_of


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::192.0.2.1", "::/64"),
    ],
)
def test_of_ipv6_a_network_is_one_address(address: str, counted_as: str) -> None:
    assert network_of(address) == counted_as


@pytest.mark.parametrize(
    "address",
    ["", "2001:db8::\0", "2001:db8::\udcff", "192.0.2.\udcff", "192.0.2.1\0", "192.0.2.01",
     "192.0.2", "not:an:address", "a proxy's word"],
)  # fmt: skip
def test_what_is_no_address_stands_for_nobody(address: str) -> None:
    assert network_of(address) is None
