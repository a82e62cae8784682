"""Stands in for AWS' session-manager-plugin: leads a local port to the one that the session's token names.

The real one speaks to SSM, whose stand-in gives the address as the token. As the real one does, it goes on when the AWS
CLI, which started it, has ended.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

# Newer than the ones that are given the session as an argument, not by a variable.
VERSION = "1.2.764.0"


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
        return
    # The AWS CLI ignores it, and so would this one, which inherits that; the real one does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("SESSION_PLUGIN_GOES_ON"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    session = json.loads(os.environ[sys.argv[1]])
    asked = json.loads(sys.argv[5])["Parameters"]
    with suppress(KeyboardInterrupt):
        asyncio.run(lead(int(asked["localPortNumber"][0]), int(session["TokenValue"])))


async def lead(local: int, remote: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", remote)
            # When either side has ended, both have.
            ways = {
                asyncio.create_task(copy(reader, far_writer)),
                asyncio.create_task(copy(far_reader, writer)),
            }
            _, going = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in going:
                way.cancel()
            far_writer.close()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", local)
    async with server:
        await server.serve_forever()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()


if __name__ == "__main__":
    main()
