"""The documents of what others may rely on, as docs/contracts has them."""

import json

from openapi_spec_validator import OpenAPIV31SpecValidator

from tools.contracts import OPENAPI, as_text, http_document


def test_the_openapi_document_is_that_of_the_routes() -> None:
    assert OPENAPI.read_text() == as_text(http_document()), "run: just contracts"


def test_the_openapi_document_is_valid() -> None:
    errors = OpenAPIV31SpecValidator(json.loads(OPENAPI.read_text())).iter_errors()

    assert [error.message for error in errors] == []
