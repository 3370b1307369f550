"""The errors of the bus."""

from typing import Self

from hubbub_client.contracts.errors import Unavailable


class BusUnavailable(Unavailable):
    """No answer, a temporary refusal, or no connection: it may be done or not; try again."""


class NobodyAnswers(BusUnavailable):
    """Nobody is subscribed to what was asked."""


class StreamMissing(BusUnavailable):
    """The bus answers and has no such stream: `bootstrap` has not run."""


class MessageRejected(Exception):
    """The bus says that this message can never be stored; another try changes nothing."""

    def __init__(self, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.err_code = err_code
        self.description = description

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        """For other processes, which by default would make it of its text."""
        return type(self), (self.err_code, self.description)


class BusLost(Exception):
    """The connection was closed for good, as after revoked credentials: the process must end."""
