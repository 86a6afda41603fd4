"""Does what a Python program would do: a call and its reply, one that is refused, one that streams, and durable publishes."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nats


def body(command: str, options: dict[str, Any] | None = None, **args: Any) -> bytes:
    return json.dumps({"command": command, "args": args, "options": options or {}}).encode()


async def main(url: str) -> None:
    nc = await nats.connect(url)
    found: dict[str, Any] = {}
    session = "dspex.rpc.session.python_1"

    reply = await nc.request(session, body("predict", question="What is Elixir?"), timeout=60)
    found["reply"] = json.loads(reply.data)

    refused = await nc.request(session, body("frobnicate"), timeout=60)
    found["refused"] = {"code": refused.headers["Nats-Service-Error-Code"], "error": json.loads(refused.data)["error"]["code"]}

    inbox = await nc.subscribe(nc.new_inbox())
    await nc.publish(session, body("predict", {"stream": True}, question="one two three four"), reply=inbox.subject)
    found["partials"] = []
    while True:
        part = await inbox.next_msg(timeout=60)
        if "Dspex-Partial" not in (part.headers or {}):
            found["streamed"] = json.loads(part.data)
            break
        found["partials"].append(json.loads(part.data)["chunk"])

    js = nc.jetstream()
    answers = await nc.subscribe("dspex.reply.python_1")
    question = body("predict", question="Tell me more about it")
    headers = {"Dspex-Job": "python-job-1", "Dspex-Reply-To": "dspex.reply.python_1"}
    ack = await js.publish("dspex.session.python_1", question, headers=headers)
    await js.publish("dspex.session.python_1", question, headers=headers)  # the same id: it runs once, both are answered
    found["stream"] = ack.stream
    found["answer"] = json.loads((await answers.next_msg(timeout=60)).data)
    found["again"] = json.loads((await answers.next_msg(timeout=60)).data)
    ask = json.dumps({"session": "python_1", "job": "python-job-1", "wait_ms": 60000}).encode()
    found["outcome"] = json.loads((await nc.request("dspex.rpc.jobs.get", ask, timeout=61)).data)

    print(json.dumps(found))
    await nc.close()


asyncio.run(main(sys.argv[1]))
