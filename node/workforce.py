"""Workers as processes below this one."""

import os
import subprocess
import sys

from node.settings.whole import Settings

STANDARD_ERROR = 2


def spawn_worker(settings: Settings, arguments: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """Start `python -m workers` with these very settings; it is told to stop when this process dies."""
    command = [sys.executable, "-m", "workers", "--ends-with-parent", str(os.getpid()), *arguments]
    environment = {**os.environ, **settings.as_environment()}
    # Celery says good-bye on standard output, which belongs to people and --json.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, env=environment)
