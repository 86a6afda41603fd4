"""Does what a Python program would do: one request with its reply, one durable publish and the look-up of its outcome."""

from __future__ import annotations

import asyncio
import json
import sys

import nats


def body(command: str, **args: object) -> bytes:
    return json.dumps({"command": command, "args": args}).encode()


async def main(url: str) -> None:
    nc = await nats.connect(url)
    reply = await nc.request("dspex.rpc.session.python_1", body("predict", question="What is Elixir?"), timeout=30)
    headers = {"Dspex-Job": "python-job-1", "Nats-Msg-Id": "python_1.python-job-1"}
    js = nc.jetstream()
    question = body("predict", question="Tell me more about it")
    ack = await js.publish("dspex.session.python_1", question, headers=headers)
    again = await js.publish("dspex.session.python_1", question, headers=headers)
    ask = json.dumps({"session": "python_1", "job": "python-job-1", "wait_ms": 30000}).encode()
    outcome = await nc.request("dspex.rpc.jobs.get", ask, timeout=31)
    print(
        json.dumps(
            {
                "reply": json.loads(reply.data),
                "stream": ack.stream,
                "duplicate": again.duplicate,
                "outcome": json.loads(outcome.data),
            }
        )
    )
    await nc.close()


asyncio.run(main(sys.argv[1]))
