"""Filters that clients ask for, whatever they take for one."""

import pytest

from gateway.protocols.centrifuge.filters import BadFilter, compile_filter


@pytest.mark.parametrize("comparison", ["", "like", None, 1, ["lt"], {"lt": 1}])
def test_a_comparison_that_is_none_makes_no_filter(comparison: object) -> None:
    with pytest.raises(BadFilter, match="no such comparison"):
        compile_filter({"key": "team", "cmp": comparison, "val": "1"})
