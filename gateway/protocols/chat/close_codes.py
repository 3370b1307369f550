"""With which close codes `/ws/chat` ends connections, and what it says to them."""

from collections.abc import Mapping
from enum import IntEnum

from gateway.errors import EndReason
from gateway.transport.frames import Close


class CloseCode(IntEnum):
    """Those of RFC 6455, section 7.4, and of its registry, that `/ws/chat` uses."""

    UNSUPPORTED_DATA = 1003
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013


CLOSE_CODES: Mapping[EndReason, Close] = {
    EndReason.UNSUPPORTED_DATA: Close(
        CloseCode.UNSUPPORTED_DATA, "binary frames are not understood"
    ),
    EndReason.INVALID_TOKEN: Close(CloseCode.POLICY_VIOLATION, "Invalid token"),
    EndReason.TOKEN_EXPIRED: Close(CloseCode.POLICY_VIOLATION, "Token expired"),
    EndReason.SESSION_ENDED: Close(CloseCode.POLICY_VIOLATION, "Session ended"),
    EndReason.INVALID_CHANNEL: Close(CloseCode.POLICY_VIOLATION, "Invalid room"),
    EndReason.RATE_LIMIT: Close(CloseCode.POLICY_VIOLATION, "Rate limit"),
    EndReason.TOO_MANY_OF_USER: Close(
        CloseCode.POLICY_VIOLATION, "Too many connections of this user"
    ),
    EndReason.TOO_MANY_OF_ADDRESS: Close(
        CloseCode.POLICY_VIOLATION, "Too many connections from this address"
    ),
    EndReason.INTERNAL_ERROR: Close(CloseCode.INTERNAL_ERROR, "internal error"),
    EndReason.RESTARTING: Close(CloseCode.SERVICE_RESTART, "restarting"),
    EndReason.TOO_SLOW: Close(CloseCode.TRY_AGAIN_LATER, "too slow"),
    EndReason.SILENT: Close(CloseCode.TRY_AGAIN_LATER, "silent"),
    EndReason.NOT_READY: Close(CloseCode.TRY_AGAIN_LATER, "not ready"),
    EndReason.FULL: Close(CloseCode.TRY_AGAIN_LATER, "too many connections"),
}
"""Total: a test says so."""
