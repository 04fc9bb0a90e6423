"""One part for each of several Instances; what cannot be read is left out, and hides none of the others."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import chain

from fastapi import Request, Response

from node.errors import DecoderDied, FileUnreadable, NodeError, NotFound, PixelsUndecodable
from node.ledger.holdings import Holding
from node.web.payload import Part, multipart_response
from node.web.places import Shelf
from node.web.rights import Visitor

# What is wrong with one Instance alone.
ITS_OWN = (FileUnreadable, PixelsUndecodable, DecoderDied)
# Makes the part of an Instance, by its place; told whether a part of the answer is out already.
MakePart = Callable[[int, bool], Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One request that reads, and who asks."""

    shelf: Shelf
    request: Request
    visitor: Visitor

    def leave_out(self, holding: Holding, cause: NodeError) -> None:
        """Tell the operator and the audit trail that an Instance cannot be had."""
        self.shelf.leave_out(holding, cause.code)
        study, instance = holding.study_instance_uid, holding.sop_instance_uid
        self.shelf.services.witnessing.left_out(self.request, self.visitor, study, instance)


def count_classes(holdings: Sequence[Holding]) -> Mapping[str, int]:
    """Return SOP Class UID to number of Instances."""
    return Counter(holding.sop_class_uid for holding in holdings)


def gather(reading: Reading, holdings: Sequence[Holding], make: MakePart, *, kind: str) -> Response:
    """Return a multipart response with a part for each Instance that can be read, and none that is not whole.

    It is 206 where an Instance was left out before the first byte goes; what is found later is missing in the answer,
    and told in the log only. Of a part nothing is sent before its first bytes are read; where the disk fails in its
    middle, the whole answer breaks off, so that nobody takes it for a whole one.

    Raises
    ------
    NodeError
        If nothing can be read: what is wrong with the last one.

    References
    ----------
    DICOM PS3.18 10.4.3.1
    """
    left_out: list[NodeError] = []
    streamers = reading.shelf.pixels.streamers
    parts = _parts(reading, holdings, make, left_out)
    first = next(parts, None)
    if first is None:
        raise left_out[-1]
    gone = sum(not isinstance(cause, NotFound) for cause in left_out)
    gone += sum(_is_gone(reading.shelf, holding) for holding in holdings[len(left_out) + 1 :])
    if not gone:
        return multipart_response(chain([first], parts), kind=kind, streamers=streamers)
    warning = f'299 radnode: "{gone} of {len(holdings)} Instances cannot be read and are left out"'
    return multipart_response(
        chain([first], parts),
        kind=kind,
        streamers=streamers,
        headers={"Warning": warning},
        status=HTTPStatus.PARTIAL_CONTENT,
    )


def _parts(reading: Reading, holdings: Sequence[Holding], make: MakePart, left_out: list[NodeError]) -> Iterator[Part]:
    is_under_way = False
    for place, holding in enumerate(holdings):
        try:
            part = _opened(make(place, is_under_way))
        except ITS_OWN as exc:
            reading.leave_out(holding, exc)
            left_out.append(exc)
            continue
        except NotFound as exc:
            # It has no pixels, so there is nothing to show.
            left_out.append(exc)
            continue
        yield part
        is_under_way = True


def _opened(part: Part) -> Part:
    """Return a part whose first bytes are read."""
    content = iter(part.content)
    return replace(part, content=chain([next(content, b"")], content))


def _is_gone(shelf: Shelf, holding: Holding) -> bool:
    try:
        shelf.whole(holding)
    except FileUnreadable:
        return True
    return False
