"""Each provider's endpoint: where a call goes, with which header the key travels, and what the model is called there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.models.lm import PROVIDERS
from tests.dspy_case import KEY, context, profile, program, scenario
from tests.fake_lm import FakeLM, Reply

BEARER = {"authorization": f"Bearer {KEY}"}

ENDPOINTS: list[tuple[str, str, str, dict[str, str], str]] = [
    ("openai", "gpt-4o-mini", "/v1/chat/completions", BEARER, "max_completion_tokens"),
    ("openrouter", "meta-llama/llama-3.1-8b:free", "/v1/chat/completions", BEARER, "max_tokens"),
    ("ollama", "llama3:8b", "/v1/chat/completions", BEARER, "max_tokens"),
    ("vllm", "meta-llama/Llama-3-8B", "/v1/chat/completions", BEARER, "max_tokens"),
    ("openai_compatible", "org/model:tag", "/v1/chat/completions", BEARER, "max_tokens"),
    ("anthropic", "claude-sonnet-4-5", "/v1/messages", {"x-api-key": KEY}, "max_tokens"),
]


@pytest.mark.parametrize(("provider", "model", "path", "headers", "limit"), ENDPOINTS, ids=[endpoint[0] for endpoint in ENDPOINTS])
@pytest.mark.parametrize("prefixed", [False, True])
def test_a_call_reaches_its_providers_endpoint(
    provider: str, model: str, path: str, headers: dict[str, str], limit: str, prefixed: bool
) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        lm = profile(server, provider=provider, model=f"{provider}/{model}" if prefixed else model, temperature=0.5, max_tokens=123)
        outcome = await engine.run(program(), {"question": "hello"}, context(lm))
        assert outcome.outputs == {"answer": "echo of hello"}
        assert list(outcome.usage) == [f"{provider}/{model}"]
        request = server.requests[0]
        assert (request.method, request.path, request.body["model"]) == ("POST", path, model)
        assert headers.items() <= request.headers.items()
        assert (request.body["temperature"], request.body[limit]) == (0.5, 123)

    scenario(steps)


def test_gemini_has_the_model_in_the_path_and_the_key_in_a_header() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"answer": "hi"})]
        lm = profile(server, provider="gemini", model="gemini-1.5-flash", temperature=0.7)
        outcome = await engine.run(program(), {"question": "hello"}, context(lm))
        assert outcome.outputs == {"answer": "hi"}
        assert outcome.usage["gemini/gemini-1.5-flash"]["total_tokens"] == 7
        request = server.requests[0]
        assert request.path == "/v1/models/gemini-1.5-flash:generateContent"
        assert request.headers["x-goog-api-key"] == KEY
        assert KEY not in request.path
        assert request.body["generationConfig"]["temperature"] == 0.7

    scenario(steps)


@pytest.mark.parametrize("provider", ["ollama", "vllm", "openai_compatible"])
def test_local_servers_need_no_key(provider: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        lm = profile(server, provider=provider, api_key=None)
        assert (await engine.run(program(), {"question": "hello"}, context(lm))).outputs == {"answer": "echo of hello"}
        assert KEY not in repr(server.requests)

    scenario(steps)


def test_keys_of_the_environment_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY", "VLLM_API_KEY")
    for name in names:
        monkeypatch.setenv(name, "sk-of-the-environment")
    for name in ("OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/v1")

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for provider, model, *_ in ENDPOINTS:
            await engine.run(program(), {"question": "hello"}, context(profile(server, provider=provider, model=model)))
        assert len(server.requests) == len(ENDPOINTS)
        assert "sk-of-the-environment" not in repr(server.requests)

    scenario(steps)


def test_a_profile_opens_as_many_connections_as_it_may_and_no_more() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        jobs: list[Any] = [engine.run(program(), {"question": str(i)}, context(profile(server, max_connections=3))) for i in range(30)]
        await asyncio.gather(*jobs)
        assert server.connections == 3
        assert len(server.requests) == 30

    scenario(steps)


def test_the_host_knows_the_addresses_that_the_client_calls() -> None:
    """In level strict of the sandbox the host makes the calls: it must know the same addresses."""
    source = (Path(__file__).parents[2] / "internal" / "lm" / "lm.go").read_text()
    known = dict(re.findall(r'^\t"(\w+)": .*base: "([^"]+)"', source, re.MULTILINE))
    assert set(known) == {"openai", "anthropic", "gemini", "openrouter", "ollama"}
    for name, address in known.items():
        provider = PROVIDERS[name]
        router = dspy.lm15.LMRouter(dspy.lm15.RouterConfig(api_keys={provider.route: "k"}, env={}))
        assert router.lm(f"{provider.route}:m").base_url == address, name
