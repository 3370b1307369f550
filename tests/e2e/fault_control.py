"""Commands for a fault proxy that runs somewhere else."""

import httpx2

from tests.fixtures import plain_http


class FaultControl:
    """Speaks to the control port of `tests.e2e.fault_proxy`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def answers(self) -> bool:
        try:
            return self._ask("GET", "/").status_code == 200
        except httpx2.HTTPError:
            return False

    def set(self, **faults: float | bool) -> None:
        """These faults and no others."""
        self._ask("POST", "/faults", json=faults).raise_for_status()

    def reset_all(self) -> None:
        self._ask("POST", "/reset").raise_for_status()

    def cut_all(self) -> None:
        self._ask("POST", "/cut").raise_for_status()

    def state(self) -> dict[str, float]:
        answer: dict[str, float] = self._ask("GET", "/").json()
        return answer

    def _ask(self, method: str, path: str, json: object = None) -> httpx2.Response:
        url = f"{self._url}{path}"
        return plain_http.request(method, url, json=json)
