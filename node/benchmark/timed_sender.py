"""A sender that has its C-STOREs ready as bytes before the clock runs, and notes how long each takes.

``python -m node.benchmark.timed_sender PORT AET FILE…`` opens an Association, says ``ready``, waits for a line, sends,
and prints a `Timing` as JSON. It is a process of its own, so that nothing delays it but the receiver.
"""

import gc
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from node.benchmark.requestor import Proposal, Requestor, encode_store
from node.peers.part10 import read_file_head

READY = "ready"
Message = TypeVar("Message", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one sender saw.

    Attributes
    ----------
    begun_s, ended_s
        On the clock that all processes share.
    latencies_s
        From the first byte of each message to its response, in order; seconds.
    statuses
        Of each response: Status (0000,0900), or that of HTTP.
    """

    begun_s: float
    ended_s: float
    latencies_s: Sequence[float]
    statuses: Sequence[int]


class Client(Protocol[Message]):
    """Who sends messages that are ready."""

    def store(self, message: Message) -> int:
        """Send one, and return the status of its response."""


def send_on_command(client: Client[Message], messages: Iterable[Message]) -> Timing:
    """Say that all is ready, wait for a line, and send; return how it went.

    Raises
    ------
    NodeError
        If the receiver ends the connection.
    """
    # A collection of garbage between two looks at the clock would be taken for the receiver's.
    gc.disable()
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    times_s, statuses = [monotonic()], []
    for message in messages:
        statuses.append(client.store(message))
        times_s.append(monotonic())
    latencies_s = [after_s - before_s for before_s, after_s in pairwise(times_s)]
    return Timing(begun_s=times_s[0], ended_s=times_s[-1], latencies_s=latencies_s, statuses=statuses)


def write_timing(timing: Timing) -> None:
    """Print what `Crew` reads."""
    sys.stdout.write(json.dumps(asdict(timing)) + "\n")


def _messages(files: Sequence[Path], fragment_bytes: int) -> list[list[bytes]]:
    messages = []
    for number, file in enumerate(files):
        head = read_file_head(file)
        message = encode_store(
            message_id=number % 0xFFFF + 1,
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            data_set=file.read_bytes()[head.offset_bytes :],
            fragment_bytes=fragment_bytes,
        )
        messages.append([message])
    return messages


def main() -> None:
    """Send the files that the command line names, all of one kind."""
    port, aet, files = int(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]]
    head = read_file_head(files[0])
    proposal = Proposal(sop_class_uid=head.sop_class_uid, transfer_syntax_uids=(head.transfer_syntax_uid,))
    with Requestor(port, (proposal,), aet=aet) as requestor:
        timing = send_on_command(requestor, _messages(files, requestor.fragment_bytes))
    write_timing(timing)


if __name__ == "__main__":
    main()
