"""What the official Python client of the Model Context Protocol makes of dspex, over HTTP and over standard input and output:
mcp_client.py URL TOKEN SESSION PROGRAM BROKER. Prints what it found as JSON."""

import asyncio
import json
import sys

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

url, token, session, program, broker = sys.argv[1:]


async def look(client, found):
    found["protocol"] = client.protocol_version
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    found["tools"] = sorted(tools)
    found["schema"] = tools["program_qa_bot"].input_schema
    progress = []

    async def heard(done, total, message):
        progress.append([done, message])

    ran = await client.call_tool("program_qa_bot", {"question": "one two three"}, progress_callback=heard)
    found["program"], found["progress"] = ran.structured_content, progress
    asked = await client.call_tool("predict", {"inputs": {"question": "four"}, "signature": "question -> answer"})
    found["predict"] = asked.structured_content
    await client.call_tool("update_session_data", {"operation": "set", "key": "k", "value": 7})
    found["data"] = (await client.call_tool("get_session_data", {})).structured_content["data"]
    stored = (await client.call_tool("submit_job", {"command": "predict", "args": {"question": "five"}})).structured_content
    found["waited"] = (await client.call_tool("wait_job", {"job": stored["job"]})).structured_content
    refused = await client.call_tool("run_command", {"command": "shutdown"})
    found["refused"] = [refused.is_error, json.loads(refused.content[0].text)["code"]]


async def cancelled(client):
    """A call that is given up ends its job."""
    with anyio.move_on_after(2) as scope:
        await client.call_tool("run_command", {"command": "sleep", "args": {"ms": 600000}, "dspex_session": session + "_nap"})
    return scope.cancelled_caught


async def main():
    found = {"http": {}, "stdio": {}}
    headers = {"Authorization": "Bearer " + token, "Dspex-Session": session + "_http"}
    async with httpx2.AsyncClient(headers=headers) as http:
        async with Client(streamable_http_client(url + "/mcp", http_client=http)) as client:
            await look(client, found["http"])
            found["http"]["gaveUp"] = await cancelled(client)
    command = StdioServerParameters(command=program, args=["mcp", "--server", broker, "--session", session + "_stdio"])
    async with Client(command) as client:
        await look(client, found["stdio"])
        found["stdio"]["gaveUp"] = await cancelled(client)
    print(json.dumps(found))


asyncio.run(main())
