"""Every code with which something ends or waits, in words."""

from collections.abc import Mapping
from types import MappingProxyType

from node.errors import NodeError

# Codes that are no errors; those of the error tree speak for themselves (docs/errors.md has all of them).
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no-rule-matched": "no rule wants this Study",
        "rules-undetermined": "a rule may want this Study, but its header does not say enough",
        "study-incomplete": "more Instances were announced than came",
        "superseded": "another Job took its place",
        "awaits-prior": "it waits for an earlier Study of the patient, which its rule wants beside it",
        "canceled-by-hand": "a person canceled it",
        "switched-off": "its Pipeline was switched off",
        "worker-ended": "its worker was told to end; it starts again elsewhere, or later",
        "worker-lost": "the process that worked on it died, or gave no sign",
        "time-limit": "it ran longer than it may",
        "unanswered": "the Destination ended the connection, or said nothing, while it was sent",
        "answer-unheard": "the rules are still asked what follows from the answer",
        "fewer-than-listed": "the peer listed more Instances than it gave, and said that none failed",
        "gave-up": "it never succeeded in all the time that it had",
        "no-destination": "the settings named no such Destination any more, in all the time that it had",
        "not-held": "the Destination took it, and was found not to hold it",
        "unconfirmed": "the Destination took it, and did not answer whether it holds it",
        "retracted": "the Result was taken back",
        "purged": "its Study was given up before it left",
        "restored": "the ledger was made anew, and what it says of this is not known from first hand",
        "sent-with-warning": "the Destination took it, with a warning",
    }
)


def explain_reason(code: str) -> str:
    """Return what a code means, in words; the code itself where a newer radnode wrote it."""
    if code in REASONS:
        return REASONS[code]
    kinds = {kind.code: kind for kind in _kinds(NodeError)}
    said = (kinds[code].__doc__ or "").partition("\n")[0] if code in kinds else code
    return said.rstrip(".")


def _kinds(root: type[NodeError]) -> list[type[NodeError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]
