"""Who gave an order: the account under which this process runs."""

import getpass
import os


def find_account() -> str:
    """Return the name of the person's account, or its number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"account {os.getuid()}"
