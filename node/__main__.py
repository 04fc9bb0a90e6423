"""Entry of `radnode` and `python -m node`."""

import sys

NURSERY = "nursery"
# They decode nothing; what decodes is started by them as a process of its own.
WITHOUT_DECODERS = frozenset({"up", "serve", NURSERY})


def main() -> None:
    """Run the command line, or a nursery that the node starts for itself."""
    if not WITHOUT_DECODERS.isdisjoint(sys.argv[1:2]):
        # pydicom would load it wherever it is installed: 10 MB.
        sys.modules["gdcm"] = None  # type: ignore[assignment]  # so import is told that there is none
    # Imported here: a nursery must not carry Celery, Redis and the terminal's libraries, nor wait for them.
    if sys.argv[1:2] == [NURSERY]:
        from node.household import load_programs
        from node.nursery import main as run_nursery

        run_nursery(sys.argv[2:], load_programs)
        return
    from node.cli.main import app

    app(prog_name="radnode")


if __name__ == "__main__":
    main()
