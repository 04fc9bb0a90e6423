"""Entry of `radnode` and `python -m node`."""

import sys

RECEIVER = "receiver"
WEB = "web"


def main() -> None:
    """Run the command line, or a process that the node starts for itself: a receiver, or the web."""
    # Imported here: these must not carry Celery, Redis and the terminal's libraries, nor wait for them.
    if sys.argv[1:2] == [RECEIVER]:
        from node.receiver import main as receive

        receive(sys.argv[2:])
        return
    if sys.argv[1:2] == [WEB]:
        from node.website import main as serve_web

        serve_web(sys.argv[2:])
        return
    from node.cli.main import app

    app(prog_name="radnode")


if __name__ == "__main__":
    main()
