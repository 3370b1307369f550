"""What is remembered of tokens, against the plainest model: a list, the latest at its end."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared.tokens.remembered import RememberedTokens

TOKENS = st.sampled_from(["one", "two", "three", "four", "f\u00fcnf", "\udcff"])


class Memory(RuleBasedStateMachine):
    @initialize(capacity=st.integers(0, 4))
    def begin(self, capacity: int) -> None:
        self.remembered: RememberedTokens[int] = RememberedTokens(capacity)
        self.capacity = capacity
        self.model: list[tuple[str, int]] = []

    @rule(token=TOKENS, found=st.integers())
    def put(self, token: str, found: int) -> None:
        self.remembered.put(token, found)
        self._forget(token)
        self.model = [*self.model, (token, found)][-self.capacity :] if self.capacity else []

    @rule(token=TOKENS)
    def get(self, token: str) -> None:
        expected = dict(self.model).get(token)
        assert self.remembered.get(token) == expected
        if expected is not None:
            self._forget(token)
            self.model.append((token, expected))

    @rule(token=TOKENS)
    def drop(self, token: str) -> None:
        self.remembered.drop(token)
        self._forget(token)

    def _forget(self, token: str) -> None:
        self.model = [entry for entry in self.model if entry[0] != token]

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        assert len(self.remembered) == len(self.model)


TestMemory = Memory.TestCase


def test_no_token_is_kept() -> None:
    remembered: RememberedTokens[int] = RememberedTokens(10)

    remembered.put("a.secret.token", 1)

    assert "secret" not in repr(vars(remembered))
