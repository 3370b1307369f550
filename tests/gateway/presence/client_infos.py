"""Infos of connections, of every kind."""

from hypothesis import strategies as st

from gateway.presence.records import ClientInfo

_texts = st.none() | st.text(max_size=10).map(str.encode) | st.sampled_from([b'{"a": 1.50}', b"[]"])
client_infos = st.none() | st.builds(ClientInfo, _texts, _texts)
