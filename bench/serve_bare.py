"""Serves a bare app exactly as the sequencer is served: `python -m bench.serve_bare module:factory`."""

import sys

from api_server.server import UvicornServerConfig, exit_on_signals, listening, serve


def main(factory: str) -> None:
    """Serve until SIGTERM, with the one call of uvicorn that the product has: loop, sockets and limits are the same."""
    exit_on_signals()
    config = UvicornServerConfig()
    with listening(config) as listener:
        serve(factory, config, listener)


if __name__ == "__main__":
    main(sys.argv[1])
