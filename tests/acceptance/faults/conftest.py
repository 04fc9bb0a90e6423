"""A node for the faults of a file; after each of them it is asked whether it still serves and holds no more."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.footprint import Witness
from tests.instances import ct_slice, encode
from tests.node_process import Launch, NodeProcess
from tests.pdus import STORAGE_ID, Response, associated, message, store_rq

CALLING_AETS = '[security]\ncalling_aets = ["MODALITY"]\n'
# Of the node that those files share which ask for no other one.
SHARED_NODE_KEYS = "max_associations = 256\nmax_associations_per_peer = 256\n"
SHARED_STORE_KEYS = "max_instance_bytes = 1_000_000\n"

StartNode = Callable[[str, str], NodeProcess]


@pytest.fixture(scope="package")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Return what gives the node with these lines of its tables ``[node]`` and ``[store]``; it starts once."""
    running: dict[tuple[str, str], NodeProcess] = {}
    with ExitStack() as stack:

        def start(node_keys: str, store_keys: str) -> NodeProcess:
            key = (node_keys, store_keys)
            if key not in running:
                folder, without_worker = tmp_path_factory.mktemp("node"), Launch(verb="serve")
                node = NodeProcess(folder, store_keys + CALLING_AETS, node_keys=node_keys, launch=without_worker)
                running[key] = stack.enter_context(node)
            return running[key]

        yield start


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, start_node: StartNode) -> NodeProcess:
    """Return a running node; a module's `NODE_KEYS`, if it has any, are lines of the table ``[node]``."""
    if hasattr(request.module, "NODE_KEYS"):
        return start_node(request.module.NODE_KEYS, "")
    return start_node(SHARED_NODE_KEYS, SHARED_STORE_KEYS)


@pytest.fixture(scope="module")
def witness(node: NodeProcess) -> Witness:
    """Return who has seen the node before the first fault, and after it has received."""
    with associated(node.peer) as wire:
        wire.send(message(STORAGE_ID, store_rq(), encode(ct_slice())))
        assert isinstance(wire.answer(), Response)
        wire.release()
    return Witness(node)


@pytest.fixture(autouse=True)
def _unharmed(witness: Witness) -> Iterator[None]:
    yield
    witness.look()
