"""What `/ws/chat` says to whom the gateway ends."""

from websockets.frames import OK_CLOSE_CODES, Close

from gateway.errors import EndReason
from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.transport.frames import close_frame


def test_every_reason_to_end_a_connection_has_a_close_of_its_own() -> None:
    assert set(CLOSE_CODES) == set(EndReason)
    assert len(set(CLOSE_CODES.values())) == len(EndReason)


def test_each_close_may_be_sent_and_its_text_fits() -> None:
    for close in CLOSE_CODES.values():
        assert close.code not in OK_CLOSE_CODES
        assert Close.parse(close_frame(close)[2:]) == Close(close.code, close.reason)
