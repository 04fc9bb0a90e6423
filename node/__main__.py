"""Entry of `radnode` and `python -m node`."""

from node.cli.main import app


def main() -> None:
    """Run the command line."""
    app(prog_name="radnode")


if __name__ == "__main__":
    main()
