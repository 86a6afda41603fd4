"""The model of the differential suite: it answers any of DSPy's adapters, and what it answers follows from the request alone."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.fake_lm import Reply, Request

__all__ = ["answer"]

_CHAT = re.compile(r"`\[\[ ## (\w+) ## \]\]`(?: \(must be formatted as a valid Python ([^`]*?)\))?(?=,|\.|$)")
_JSON = re.compile(r"`(\w+)`(?: \(must be formatted as a valid Python ([^`]*?)\))?(?=,|\.|$)")
_XML = re.compile(r"`<(\w+)>`")
_ERROR = re.compile(r"please fail with (\d{3})")
_SAY = re.compile(r"please answer exactly \((.*?)\)", re.DOTALL)


def answer(request: Request) -> Reply:
    """The reply to a request. A prompt may ask for an HTTP error, or for an answer in no adapter's form."""
    text = _text(request.body["messages"][-1].get("content") or "")
    if error := _ERROR.search(text):
        code = int(error.group(1))
        more = {"code": "context_length_exceeded"} if code == 413 else {}
        return Reply(status=400 if code == 413 else code, error={"message": "as asked", "type": "t", **more})
    if said := _SAY.search(text):
        return Reply(text=said.group(1))
    form = text[text.rfind("Respond with") :] if "Respond with" in text else ""
    whole = "\n".join(_text(message.get("content") or "") for message in request.body["messages"])
    if "`[[ ## " in form:
        fields = [(name, kind) for name, kind in _CHAT.findall(form) if name != "completed"]
        parts = [f"[[ ## {name} ## ]]\n{_shown(_value(name, kind, text, whole))}" for name, kind in fields]
        return Reply(text="\n\n".join([*parts, "[[ ## completed ## ]]\n"]))
    if "JSON object" in form:
        return Reply(text=json.dumps({name: _value(name, kind, text, whole) for name, kind in _JSON.findall(form)}))
    if "XML tags" in form:
        kinds = dict(re.findall(r"^\d+\. `(\w+)` \(([^)]*)\)", whole, re.MULTILINE))
        parts = [f"<{name}>{_shown(_value(name, kinds.get(name, 'str'), text, whole))}</{name}>" for name in _XML.findall(form)]
        return Reply(text="\n".join(parts))
    return Reply(text=f"said: {text[:200]}")


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


_SAMPLES: dict[str, Any] = {
    "int": 7, "float": 1.5, "bool": True, "list[str]": ["a", "b"], "list[int]": [1, 2], "dict[str, int]": {"k": 1}, "dict[str, str]": {"k": "v"},
    "date": "2025-07-15", "datetime": "2025-07-15T10:30:00", "Decimal": "1.10", "Any": "any", "dict[str, Any]": {"k": [1]}, "set[str]": ["a"],
    "tuple[int, str]": [1, "a"], "list[dict[str, int]]": [{"k": 1}], "Path": "a/b", "UUID": "00000000-0000-0000-0000-000000000001",
}  # fmt: skip


def _value(name: str, kind: str, text: str, whole: str) -> Any:
    kind = kind.strip()
    if name == "next_tool_name":
        tools = re.findall(r"\(\d+\) (\w+)(?:, whose|\.)", whole)
        return "finish" if "[[ ## observation_" in text or "observation_" in text or not tools else tools[0]
    if name == "next_tool_args":
        return {} if "observation_" in text else _arguments(whole)
    if kind.startswith("Literal["):
        return kind[8:-1].split(", ")[0].strip("'\"")
    if kind.startswith(("Optional[", "Union[")) and kind.endswith("]"):
        kind = kind[kind.index("[") + 1 : -1].split(",")[0].strip()
    if " | " in kind:
        kind = kind.split(" | ")[0]
    if kind in _SAMPLES:
        return _SAMPLES[kind]
    if kind in ("", "str"):
        first = re.search(r"(?:\[\[ ## \w+ ## \]\]|<\w+>)\s*(.*)", text)
        return f"{name} of {(first.group(1) if first else text)[:60].strip()}"
    schema = re.search(rf"`{name}` \([^\n]*?JSON schema: (\{{.*\}})\s*$", whole, re.MULTILINE) or re.search(
        rf"\[\[ ## {name} ## \]\]\n\{{{name}\}}\s*# note: [^\n]*JSON schema: (\{{.*\}})", whole
    )
    found = json.loads(schema.group(1)) if schema else {}
    return _of_schema(found, found.get("$defs", {}))


def _arguments(whole: str) -> dict[str, Any]:
    found = re.search(r"It takes arguments (\{.*?\})\.$", whole, re.MULTILINE)
    names = re.findall(r"'(\w+)': \{[^{}]*'type': '(\w+)'", found.group(1)) if found else []
    samples = {"string": "x", "integer": 3, "number": 1.5, "boolean": True}
    return {name: samples.get(kind, "x") for name, kind in names}


def _of_schema(schema: dict[str, Any], defs: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _of_schema(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _of_schema(schema["anyOf"][0], defs)
    kind = schema.get("type")
    if kind == "object":
        return {name: _of_schema(inner, defs) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_of_schema(schema.get("items", {}), defs)]
    return {"string": "text", "integer": 3, "number": 2.5, "boolean": True}.get(str(kind), "text")
