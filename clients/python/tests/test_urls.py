import pytest

from hubbub_client.urls import without_passwords


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://a:4222", "nats://a:4222"),
        ("nats://me:sesame@a:4222", "nats://a:4222"),
        ("tls://sesame@a", "tls://a"),
        ("me:sesame@a:4222", "a:4222"),
        ("nats://a,nats://me:sesame@b,c", "nats://a,nats://b,c"),
        ("nats://me:sesame@a,nats://me:sesame@b", "nats://a,nats://b"),
        ("nats://me:sesame@[::1", "nats://[::1"),
        ("nats://me:ses/ame@a", "nats://a"),
        ("nats://me:ses@ame@a", "nats://a"),
        ("nats://me:ses,ame@a", "nats://a"),
        ("nats://me:ses://ame@a", "nats://a"),
        ("nats://me:ses\name@a", "nats://a"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_who_signs_in(url: str, shown: str) -> None:
    assert without_passwords(url) == shown
