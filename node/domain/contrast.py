"""Whether contrast was given when an image was acquired, by its header: one judgement for rules and Pipelines."""

from node.domain.frame_groups import CONVERTED_CLASSES

# What technologists type into Contrast/Bolus Agent (0018,0010) when none was given.
NO_AGENT = frozenset({
    "none", "no", "n", "0", "n a", "na", "nil", "without", "no contrast", "without contrast", "non contrast",
})  # fmt: skip
# Contrast/Bolus Agent Administered (0018,9342).
NOT_ADMINISTERED, ADMINISTERED = "NO", "YES"
# What the ledger keeps of it (`node.domain.study.CONTRAST_GIVEN`).
GIVEN, NOT_GIVEN = "YES", "NO"


def is_given_with_frames(
    *, sop_class_uid: str, has_agents: bool, names_agents: bool, administered: object, keeps_slices: bool
) -> bool | None:
    """Return whether contrast was given by all but Contrast/Bolus Agent of a multi-frame image; None where it is open.

    Parameters
    ----------
    has_agents, names_agents
        Whether Contrast/Bolus Agent Sequence (0018,0012) has Items, and whether one says which agent.
    administered
        Contrast/Bolus Agent Administered (0018,9342) of the Frame that stands for all.
    keeps_slices
        Whether a conversion kept what its single slices said and groups have no names for.

    References
    ----------
    DICOM PS3.3 C.7.6.4b (its Sequence is required where contrast was applied), C.7.6.16.2.12
    """
    if has_agents:
        # Of Frames before the agent, or of a mixture; or of an agent that nobody named.
        return True if names_agents and administered != NOT_ADMINISTERED else None
    if sop_class_uid in CONVERTED_CLASSES and not keeps_slices:
        return None
    return administered == ADMINISTERED


def is_given(agent: str, *, otherwise: bool | None) -> bool | None:
    """Return whether contrast was given; None where that is open.

    Parameters
    ----------
    agent
        Contrast/Bolus Agent (0018,0010); words that say that none was given count as none.
    otherwise
        What all else tells.
    """
    if not agent:
        return otherwise
    if _fold(agent) not in NO_AGENT:
        return True
    # One says that none was given, the other names it.
    return None if otherwise else otherwise


def _fold(words: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in words.lower()).split())
