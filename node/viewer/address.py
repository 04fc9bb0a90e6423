"""Where the viewer is served, and how it is told what to open."""

from urllib.parse import urlencode

# The prebuilt files are rewritten for it when they are installed.
PREFIX = "/viewer/"


def viewer_url(study_instance_uid: str) -> str:
    """Return the URL, on this node, at which the viewer opens a Study."""
    return f"{PREFIX}viewer?{urlencode({'StudyInstanceUIDs': study_instance_uid})}"
