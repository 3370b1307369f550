"""Hubbub from a Django application: it publishes once the transaction is committed.

`INSTALLED_APPS` has `"hubbub_client.django"`, and the settings a `HUBBUB` with `URL` and `API_KEY`.
"""

try:
    import django as _django  # noqa: F401
except ImportError as error:
    raise ImportError("this needs Django: pip install 'hubbub-client[django]'") from error

from hubbub_client.django.client import another_hubbub, the_hubbub
from hubbub_client.django.on_commit import notify, publish

__all__ = ["another_hubbub", "notify", "publish", "the_hubbub"]
