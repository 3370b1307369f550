"""The transactional outbox in a Django application: what is told commits with what it tells of.

`INSTALLED_APPS` has `"hubbub_client.django.outbox"`, whose migration makes the tables, and
`manage.py hubbub_relay` sends what is committed. `hubbub_client.outbox` says what is promised.
"""

from hubbub_client.django.outbox.append import append, append_publication

__all__ = ["append", "append_publication"]
