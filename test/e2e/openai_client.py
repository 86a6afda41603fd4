"""What OpenAI's own client for Python, unmodified, makes of a gateway: openai_client.py URL TOKEN SESSION. Prints what it found as JSON."""

import json
import sys

from openai import APIStatusError, OpenAI

url, token = sys.argv[1], sys.argv[2]
client = OpenAI(base_url=url + "/v1", api_key=token, max_retries=0)
found = {"models": [model.id for model in client.models.list()]}

messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}]
chat = client.chat.completions.create(model="default", messages=messages)
found["chat"] = {"text": chat.choices[0].message.content, "finish": chat.choices[0].finish_reason, "tokens": chat.usage.total_tokens}

text, chunks, tokens = "", 0, 0
for chunk in client.chat.completions.create(model="default", messages=messages, stream=True, stream_options={"include_usage": True}):
    chunks += 1
    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    tokens += chunk.usage.total_tokens if chunk.usage else 0
found["chatStream"] = {"text": text, "chunks": chunks, "tokens": tokens}

first = client.responses.create(model="default", input="My name is Ada.")
second = client.responses.create(model="default", input="And my name?", previous_response_id=first.id)
found["response"] = {
    "text": first.output_text,
    "session": first.conversation.id,
    "next": second.conversation.id,
    "status": second.status,
    "tokens": second.usage.total_tokens,
}

kinds, said = [], ""
for event in client.responses.create(model="default", input="four five six", stream=True, store=False):
    kinds.append(event.type)
    if event.type == "response.output_text.delta":
        said += event.delta
    if event.type == "response.completed":
        found["responseStream"] = {"text": said, "final": event.response.output_text}
found["kinds"] = kinds

program = client.chat.completions.create(
    model="program:qa_bot", messages=[{"role": "user", "content": "seven eight"}], extra_headers={"Dspex-Session": sys.argv[3]}
)
found["program"] = program.choices[0].message.content


def refused(call):
    try:
        call()
    except APIStatusError as e:
        return {"name": type(e).__name__, "status": e.status_code, "code": e.code, "param": e.param}
    return {}


found["refused"] = [
    refused(lambda: client.chat.completions.create(model="default", messages=messages, n=2)),
    refused(lambda: client.chat.completions.create(model="nobody", messages=messages)),
    refused(lambda: client.chat.completions.create(model="program:nobody", messages=messages[1:])),
    refused(lambda: OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()),
]
print(json.dumps(found))
