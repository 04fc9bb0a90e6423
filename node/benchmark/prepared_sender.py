"""`radnode send` whose clock begins after Python has loaded it, as in a node that runs: ``AET PORT FOLDER``.

Prints what it took, in JSON: wall-clock and processor time, seconds.
"""

import json
import sys
from pathlib import Path
from time import perf_counter, process_time

from node.errors import Broken
from node.peers.peer import Peer
from node.peers.sender import find_files, send_files


def main(aet: str, port: str, folder: str) -> None:
    """Send a folder to a port of the loopback.

    Raises
    ------
    Broken
        If a file was not taken.
    """
    begun_s, begun_cpu_s = perf_counter(), process_time()
    report = send_files(find_files([Path(folder)]), Peer(aet=aet, host="127.0.0.1", port=int(port)))
    taken = {"seconds": perf_counter() - begun_s, "cpu_s": process_time() - begun_cpu_s}
    if report.failed:
        raise Broken(f"{len(report.failed)} files were not taken: {report.failed[0].outcome.text}")
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
