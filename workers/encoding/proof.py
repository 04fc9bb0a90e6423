"""What the proofs of `workers.encoding.check` share."""

from node.errors import ResultCheckFailed


def require(holds: object, complaint: str) -> None:
    """Go on when `holds` is true.

    Raises
    ------
    ResultCheckFailed
        With `complaint`, which names no patient value.
    """
    if not holds:
        raise ResultCheckFailed(complaint)
