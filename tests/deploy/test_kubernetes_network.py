"""Who may talk to whom, from outside and inside."""

import pytest

from gateway.settings import GatewaySettings
from tests.deploy.manifests import (
    WORKLOADS,
    Resource,
    component,
    named,
    of_kind,
    pod_labels,
    selects,
    title,
    workloads_selected_by,
)

NATS_PODS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/component": "nats"}


def _who_may_reach(port: int) -> set[str]:
    """The components whose pods some rule lets out to that port."""
    return {
        component(workload)
        for policy in of_kind("NetworkPolicy")
        for workload in workloads_selected_by(policy["spec"]["podSelector"])
        for rule in policy["spec"].get("egress", ())
        if any(each.get("port") == port for each in rule["ports"])
    }


def test_nobody_talks_to_anybody_unless_it_is_said() -> None:
    policy = named("NetworkPolicy", "hubbub-default")["spec"]

    assert workloads_selected_by(policy["podSelector"]) == WORKLOADS
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    assert [each["port"] for rule in policy["egress"] for each in rule["ports"]] == [53, 53]


def test_every_rule_of_the_network_names_its_ports_and_peers() -> None:
    for policy in of_kind("NetworkPolicy"):
        spec = policy["spec"]
        for side, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(side, ()):
                assert rule["ports"], title(policy)
                assert rule[peers], title(policy)
            assert (side in spec) <= (side.capitalize() in spec["policyTypes"]), title(policy)


def test_only_the_gateway_and_the_services_reach_nats() -> None:
    allowed = {"gateway", "auth", "posts", "bootstrap-streams", "streams"}

    assert _who_may_reach(4222) == allowed
    nats = named("NetworkPolicy", "nats")["spec"]
    assert nats["podSelector"]["matchLabels"] == NATS_PODS
    let_in = {
        component(workload)
        for rule in nats["ingress"]
        if {"port": 4222} in rule["ports"]
        for peer in rule["from"]
        for workload in workloads_selected_by(peer["podSelector"])
    }
    assert let_in == allowed


def test_only_auth_and_posts_reach_postgresql() -> None:
    assert _who_may_reach(5432) == {"auth", "posts", "migrate-auth", "migrate-posts"}


def test_whom_one_may_ask_lets_him_in() -> None:
    """Both ends of a connection are closed unless opened."""
    for asking, policy in _egress_to_us():
        for asked in workloads_selected_by(policy["podSelector"]):
            peers = [
                peer["podSelector"]
                for rule in named("NetworkPolicy", component(asked))["spec"]["ingress"]
                for peer in rule["from"]
            ]
            assert any(selects(peer, pod_labels(asking)) for peer in peers), title(asking)


def _egress_to_us() -> list[tuple[Resource, Resource]]:
    found = [
        (workload, peer)
        for policy in of_kind("NetworkPolicy")
        for workload in workloads_selected_by(policy["spec"]["podSelector"])
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        if peer.get("podSelector") and workloads_selected_by(peer["podSelector"])
    ]
    assert len(found) == 2  # the gateway and posts ask auth for its keys
    return found


def _paths_from_outside() -> dict[str, str]:
    [ingress] = of_kind("Ingress")
    [rule] = ingress["spec"]["rules"]
    assert "defaultBackend" not in ingress["spec"]
    paths = rule["http"]["paths"]
    assert {path["pathType"] for path in paths} == {"Prefix"}
    return {path["path"]: path["backend"]["service"]["name"] for path in paths}


def _leads_to(url: str) -> str | None:
    return next(
        (
            service
            for path, service in _paths_from_outside().items()
            if url == path or url.startswith(path.rstrip("/") + "/")
        ),
        None,
    )


@pytest.mark.parametrize(
    "url", ["/api/publish", "/metrics", "/livez", "/readyz", "/docs", "/openapi.json", "/asyncapi"]
)
def test_what_is_not_for_everybody_has_no_way_in(url: str) -> None:
    assert _leads_to(url) is None


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("/ws/chat", "gateway"),
        ("/auth/register", "auth"),
        ("/auth/.well-known/jwks.json", "auth"),
        ("/posts", "posts"),
        ("/posts/7/like", "posts"),
    ],
)
def test_what_is_for_everybody_leads_to_its_service(url: str, service: str) -> None:
    assert _leads_to(url) == service
    assert named("Service", service)


def test_a_silent_websocket_outlives_the_pings_of_its_gateway() -> None:
    [ingress] = of_kind("Ingress")
    annotations = ingress["metadata"]["annotations"]
    ping = GatewaySettings.model_fields["ping_seconds"].default
    pong = GatewaySettings.model_fields["pong_seconds"].default

    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        assert float(annotations[f"nginx.ingress.kubernetes.io/{name}"]) > ping + pong
