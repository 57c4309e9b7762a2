"""A bare Starlette route: parses the push, answers JSON, stores nothing. What the server can do.

python -m tests.bench.baselines.bare PORT
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def push(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"status": "success", "task_id": body["task_id"]})


async def ready(_request: Request) -> Response:
    return Response()


def serve(app: Starlette, port: int) -> None:
    """As Taskbell is served (deploy/serving.py)."""
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    routes = [Route("/push", push, methods=["POST"]), Route("/ready", ready)]
    serve(Starlette(routes=routes), int(sys.argv[1]))
