"""Infos of connections, of every kind."""

from hypothesis import strategies as st
from pydantic_core import to_json

from gateway.presence.records import ClientInfo

_texts = st.none() | st.text(max_size=10).map(to_json) | st.sampled_from([b'{"a": 1.50}', b"[]"])
client_infos = st.none() | st.builds(ClientInfo, _texts, _texts)
