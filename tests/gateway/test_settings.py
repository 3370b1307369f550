import pytest

from gateway.settings import GatewaySettings
from shared.runtime.listening import CannotListen


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.com", ""])
def test_without_permissions_a_gateway_listens_on_loopback_alone(host: str) -> None:
    with pytest.raises(CannotListen, match="HUBBUB_GATEWAY_CLIENT_INSECURE: only with --host on"):
        GatewaySettings(client_insecure=True).check_host(host)
    GatewaySettings().check_host(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_permissions_may_be_off(host: str) -> None:
    GatewaySettings(client_insecure=True).check_host(host)
