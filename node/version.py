"""Which radnode this is."""

from importlib.metadata import version


def product_version() -> str:
    """Return the version of the installed distribution, such as ``0.1.0``."""
    return version("radnode")
