"""A web server in a thread of the tests."""

import asyncio
import socket

import uvicorn


def serve_until_told(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
    """Serve until `should_exit`, and leave no connection open.

    uvicorn closes those it has when it begins to stop; one that arrives a moment later stays, and
    the garbage collector complains about it in a later test.
    """
    asyncio.run(_serve(server, sockets))


async def _serve(server: uvicorn.Server, sockets: list[socket.socket] | None) -> None:
    await server.serve(sockets)
    while server.server_state.connections:
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
