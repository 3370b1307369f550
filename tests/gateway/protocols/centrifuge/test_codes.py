"""Every way to fail has its code."""

from gateway.errors import EndReason, Refusal
from gateway.protocols.centrifuge.codes import (
    CLOSE_CODES,
    ERROR_OF_KIND,
    ERROR_OF_REFUSAL,
    Errors,
    error_of,
)
from hubbub_client.contracts.errors import AppError, ErrorKind
from hubbub_client.nats.errors import BusUnavailable
from shared.tokens.errors import GrantExpired, InvalidToken, TokenExpired


def test_every_reason_to_end_a_connection_has_a_disconnect() -> None:
    assert set(CLOSE_CODES) == set(EndReason)
    for close in CLOSE_CODES.values():
        assert 3000 <= close.code < 4000
        assert close.reason, "with an empty one the JavaScript SDK comes back after 3503"
        assert not close.reason.startswith(("{", "[", '"')), "JSON would be taken for advice"


def test_every_refusal_and_every_kind_of_error_has_a_code() -> None:
    assert set(ERROR_OF_REFUSAL) == set(Refusal)
    assert set(ERROR_OF_KIND) == set(ErrorKind)
    codes = [error.value.code for error in Errors]
    assert len(codes) == len(set(codes))


def test_only_what_may_be_tried_again_is_temporary() -> None:
    temporary = {error.value.code for error in Errors if error.value.temporary}
    assert temporary == {100, 111}


def test_errors_of_tokens_are_told_apart() -> None:
    def code(error: AppError) -> int:
        return error_of(error).value.code

    assert code(TokenExpired("over")) == 109
    assert code(GrantExpired("over")) == 110
    assert code(InvalidToken("bad")) == 103
    assert code(BusUnavailable("away")) == 100
