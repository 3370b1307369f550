"""The users of a channel, compared with a model that sorts all entries each time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.presence.records import ClientInfo, Entry, NodeId
from gateway.presence.users import HEAD, ChannelUsers
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId

LOBBY = ChannelName("chat:lobby")

user_ids = st.integers(1, 5).map(str).map(UserId)
nodes = st.sampled_from([NodeId("a"), NodeId("b"), NodeId("c")])
tabs = st.sampled_from([ConnectionId(name) for name in "pqr"])
infos = st.sampled_from([None, ClientInfo(b"1"), ClientInfo(None, b"2")])


def an_entry(
    name: str, since: float, clients: dict[ConnectionId, ClientInfo | None], unlisted: int
) -> Entry:
    infos = tuple(clients.values())
    return Entry(name, since, tuple(clients), infos if any(infos) else (), unlisted)


entries = st.builds(
    an_entry,
    st.sampled_from(["Ann", "Bob"]),
    st.integers(0, 3).map(float),
    st.dictionaries(tabs, infos),
    st.integers(0, 2),
)
steps = st.tuples(user_ids, nodes, st.none() | entries)

Model = dict[UserId, dict[NodeId, Entry]]


def listed(model: Model) -> list[tuple[UserId, str]]:
    users = []
    for user_id, found in model.items():
        by_age = sorted((entry.since, node) for node, entry in found.items())
        users.append((by_age[0][0], user_id, found[by_age[-1][1]].name))
    return [(user_id, name) for _, user_id, name in sorted(users)]


def assert_clients(users: ChannelUsers, model: Model) -> None:
    """In the order of their users, each once, with an info that an entry says."""
    clients = iter(users.clients())
    counts = []
    for user_id, _ in listed(model):
        entries = model[user_id].values()
        connections = {each for entry in entries for each in entry.connections}
        found = [next(clients) for _ in connections]
        assert {client.user_id for client in found} <= {user_id}
        assert {client.connection for client in found} == connections
        said = [client for entry in entries for client in entry.clients()]
        assert all((client.connection, client.info) in said for client in found)
        counts.append(len(connections) + sum(entry.unlisted for entry in entries))
    assert next(clients, None) is None
    assert users.stats == (sum(counts), sum(map(bool, counts)))


@given(st.lists(steps, max_size=50))
def test_users_are_those_of_the_entries_in_order(
    walk: list[tuple[UserId, NodeId, Entry | None]],
) -> None:
    users, model = ChannelUsers(LOBBY), Model()
    for user_id, node, entry in walk:
        before, version = listed(model), users.head_version
        found = model.get(user_id, {})
        if entry is not None:
            assert users.put(user_id, node, entry) is not bool(found)
            model[user_id] = {**found, node: entry}
        elif node in found:
            gone = users.remove(user_id, node)
            model[user_id] = {name: each for name, each in found.items() if name != node}
            if not model[user_id]:
                del model[user_id]
            assert (gone is None) is (user_id in model)

        assert users.first() == listed(model)
        assert users.first(2) == listed(model)[:2]
        assert len(users) == len(model)
        assert_clients(users, model)
        for each, by_node in model.items():
            user = users.get(each)
            assert user is not None
            assert user.entries == by_node
        if listed(model) != before:
            assert users.head_version != version


def test_a_user_after_the_first_200_does_not_change_their_version() -> None:
    users = ChannelUsers(LOBBY)
    for number in range(HEAD + 5):
        users.put(UserId(str(number)), NodeId("a"), Entry("Ann", float(number), ()))
    version = users.head_version

    users.put(UserId("1000"), NodeId("a"), Entry("Ann", 1000.0, ()))
    users.put(UserId("1"), NodeId("a"), Entry("Ann", 1.0, ()))  # another tab
    assert users.head_version == version

    users.put(UserId("2"), NodeId("a"), Entry("Bea", 2.0, ()))
    assert users.head_version != version
