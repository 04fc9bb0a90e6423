"""Entry of `radnode` and `python -m node`."""

import sys

RECEIVER = "receiver"


def main() -> None:
    """Run the command line, or the receiver that the node starts for itself."""
    # Imported here: a receiver must not carry Celery, Redis and the terminal's libraries, nor wait for them.
    if sys.argv[1:2] == [RECEIVER]:
        from node.receiver import main as receive

        receive(sys.argv[2:])
        return
    from node.cli.main import app

    app(prog_name="radnode")


if __name__ == "__main__":
    main()
