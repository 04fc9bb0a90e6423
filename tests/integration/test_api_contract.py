"""The API against its own description: every answer is one that the description tells of."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from node.accounts.registry import TokenOrder
from node.domain.account import Right
from tests.ledgers import Books
from tests.openapi import DOCUMENT, describe_api
from tests.populated import populate
from tests.websites import website

# `make api-fuzz` tries more.
EXAMPLES = int(os.environ.get("RADNODE_API_EXAMPLES", "2"))


def what_is_tried(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description that tells of no cursors, and of no secrets.

    Which cursors there are, only `next` says. A wrong secret would be replaced by the right one, and its request be
    taken for one that should have been refused.
    """
    for operations in description["paths"].values():
        for operation in operations.values():
            kept = [one for one in operation.get("parameters", []) if one["name"] != "cursor"]
            operation["parameters"] = kept
            del operation["security"]
    del description["components"]["securitySchemes"]
    return description


# A body that is too long is told so, whatever it says; schemathesis leaves 413 out.
config = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}})
schema = schemathesis.openapi.from_dict(what_is_tried(json.loads(DOCUMENT.read_text(encoding="utf-8"))), config=config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A node in whose ledger something of everything has happened, and who may do everything there."""

    url: str
    token: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with website(tmp_path_factory.mktemp("api"), rights=frozenset()) as running:
        books = Books(running.services.settings.ledger_url)
        populate(books)
        books.close()
        order = TokenOrder(name="everything", scopes=frozenset(Right))
        token = running.services.registry.add_token(order, by="test")
        yield Site(url=f"http://127.0.0.1:{running.port}", token=token)


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case[Any], site: Site) -> None:
    case.call_and_validate(base_url=site.url, headers={"Authorization": f"Bearer {site.token}"})


def test_the_description_in_the_documents_is_that_of_the_node(tmp_path: Path) -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == describe_api(tmp_path), "run `make openapi`"
