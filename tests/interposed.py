"""Small C libraries between a node and its kernel: a disk that fails, and a clock that a test sets."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers import require_program

# While a file of this name exists, nothing becomes durable.
FAILING_DISK = r"""
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_failing(void) { return access(getenv("RADNODE_TEST_FILE"), F_OK) == 0; }

int fsync(int fd) {
    if (is_failing()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}

int syncfs(int fd) {
    if (is_failing()) { errno = EIO; return -1; }
    return syscall(SYS_syncfs, fd);
}
"""
# The file says by how many seconds the clock of the day is wrong; the monotonic one is right.
WRONG_CLOCK = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long wrong_by(void) {
    char said[32];
    int file = open(getenv("RADNODE_TEST_FILE"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long length = read(file, said, sizeof said - 1);
    close(file);
    said[length > 0 ? length : 0] = 0;
    return atol(said);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += wrong_by();
    return failed;
}
"""


def interpose(source: str, folder: Path) -> Mapping[str, str]:
    """Return the variables that put a library of `source` before a program's own; its file is `folder`/told."""
    library = folder / "interposed.so"
    command = [require_program("gcc"), "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return {"LD_PRELOAD": str(library), "RADNODE_TEST_FILE": str(folder / "told")}
