"""Asks as the health check of AVA's own docker-compose.yml does: connect to 127.0.0.1:$LOCAL_WS_PORT, give the token if there is one,
ask for the status, and take the very next frame for the answer. Run in the container as `python - < this file`, so it needs
what that one needs: `python` and the package websockets. Exit status 0: healthy.
"""

import asyncio
import json
import os

import websockets


async def ask(connection, question, answer):
    await connection.send(json.dumps(question))
    frame = await connection.recv()
    if not isinstance(frame, str):
        raise RuntimeError(f"the answer to {question['type']} is binary")
    found = json.loads(frame)
    if found.get("type") != answer or found.get("status") != "ok":
        raise RuntimeError(f"the answer to {question['type']} is of type {found.get('type')!r}, status {found.get('status')!r}")


async def main():
    port = os.environ.get("LOCAL_WS_PORT") or "8765"
    token = os.environ.get("LOCAL_WS_AUTH_TOKEN", "").strip()
    options = {"ping_interval": None, "ping_timeout": None, "close_timeout": 2, "max_size": None}
    connection = await websockets.connect(f"ws://127.0.0.1:{port}", **options)
    try:
        if token:
            await ask(connection, {"type": "auth", "auth_token": token}, "auth_response")
        await ask(connection, {"type": "status"}, "status_response")
    finally:
        await connection.close()


asyncio.run(main())
