"""`hubbub health`: whether a service answers, for the health check of its container.

It runs every few seconds, so it imports nothing that is slow to load.
"""

import json
from http.client import HTTPConnection, HTTPException, HTTPResponse

PROBE_SECONDS = 2.0
"""To connect, and again for each part of the answer."""
MAX_BODY_BYTES = 64 * 1024


def reason_against(host: str, port: int, path: str) -> str | None:
    """Why the service is not healthy, in one line; None if it is."""
    connection = HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return None if answer.status == 200 else _one_line(_said_by(answer))
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    except (OSError, HTTPException, UnicodeError) as error:  # the last is of a host that is none
        return _one_line(f"no answer: {getattr(error, 'strerror', None) or repr(error)}")
    finally:
        connection.close()


def _said_by(answer: HTTPResponse) -> str:
    """The detail of the problem document; if it is none, the status."""
    body = answer.read(MAX_BODY_BYTES)
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, TypeError, LookupError):
        return f"{answer.status} {answer.reason}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
