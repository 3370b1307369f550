"""A connection to NATS."""

from importlib.util import find_spec

if find_spec("nats") is None:
    raise ImportError("the bus needs nats-py: pip install 'hubbub-client[nats]'")
