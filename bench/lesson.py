"""The one-process ConnectionManager pattern on stock FastAPI and uvicorn, to compare with.

Serve it: python -m bench.lesson PORT
"""

import sys
from collections import defaultdict

import jwt
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.tokens import SECRET


class ConnectionManager:
    """A registry of sockets per user, several tabs each."""

    def __init__(self) -> None:
        self.active: dict[int, list[WebSocket]] = defaultdict(list)

    async def connect(self, websocket: WebSocket, user_id: int) -> None:
        await websocket.accept()
        self.active[user_id].append(websocket)

    def disconnect(self, websocket: WebSocket, user_id: int) -> None:
        self.active[user_id].remove(websocket)
        if not self.active[user_id]:
            del self.active[user_id]

    async def send_to_user(self, user_id: int, message: dict[str, object]) -> None:
        for socket in list(self.active.get(user_id, ())):
            try:
                await socket.send_json(message)
            except (RuntimeError, WebSocketDisconnect):
                self.disconnect(socket, user_id)

    async def broadcast(self, message: dict[str, object]) -> None:
        for user_id in list(self.active):
            await self.send_to_user(user_id, message)


app = FastAPI()
manager = ConnectionManager()


@app.websocket("/ws/chat")
async def chat(websocket: WebSocket, token: str) -> None:
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    user_id, name = int(claims["sub"]), claims["name"]
    await manager.connect(websocket, user_id)
    await websocket.send_json({"type": "welcome", "count": len(manager.active)})
    try:
        while True:
            command = await websocket.receive_json()
            message = {"type": "message", "user_id": user_id, "name": name, "body": command["body"]}
            if "to" in command:
                await manager.send_to_user(command["to"], message)
            else:
                await manager.broadcast(message)
            if "id" in command:
                await websocket.send_json({"type": "ack", "id": command["id"]})
    except WebSocketDisconnect:
        manager.disconnect(websocket, user_id)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
