"""DSPy's errors as failures of the contract: category, code, and whether a retry is of use.

DSPy puts whole answers and parts of prompts into its messages, and providers repeat prompts and keys in theirs. So the
message here is our own; of the provider's one, a short piece follows only if nothing of the inputs stands in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from dspy.utils import exceptions as ex

from dspex_worker.engines.dspy_engine.trace import Trace
from dspex_worker.errors import WorkerError, bounded
from dspex_worker.guard import causes, class_name, inner_errors, text_of

__all__ = ["NOT_CONFIGURED_HINT", "Model", "describe", "not_configured", "operation_timeout"]

MAX_RETRY_AFTER_MS = 3_600_000  # a provider may request days; the job's deadline is usually sooner
SAID = 240  # characters of a provider's own words
SHARED = 16  # a run of this many characters that also stands in the inputs makes the provider's words secret

NOT_CONFIGURED_HINT = 'run set_lm first, for example {"model": "gpt-4o-mini", "provider": "openai"}, or give the host a default LM profile'

# Specific classes before their parents: the first match counts.
_TABLE: tuple[tuple[type[Exception], str, str, bool, str], ...] = (
    (ex.LMRateLimitError, "resource_error", "lm_rate_limit", True, "limits the rate of calls"),
    (ex.LMBillingError, "python", "lm_billing", False, "refused the call: billing or quota"),
    (ex.LMAuthError, "python", "lm_auth", False, "refused the key"),
    (ex.LMTimeoutError, "timeout", "lm_timeout", True, "did not answer in time"),
    (ex.LMServerError, "resource_error", "lm_server_error", True, "failed"),
    (ex.ContextWindowExceededError, "python", "lm_context_window", False, "refused the prompt: longer than the model's context"),
    (ex.LMUnsupportedModelError, "python", "lm_unsupported_model", False, "does not have this model"),
    (ex.LMInvalidRequestError, "python", "lm_invalid_request", False, "refused the request"),
    (ex.LMStreamAssemblyError, "python", "lm_stream_broken", True, "ended its stream before the answer was complete"),
    (ex.LMProviderError, "python", "lm_bad_answer", False, "answered something that is no answer of a language model"),
    (ex.LMNotConfiguredError, "python", "lm_not_configured", False, "has no key or address"),
    (ex.LMConfigurationError, "python", "lm_configuration", False, "has settings that its model refuses"),
    (ex.LMUnsupportedFeatureError, "python", "lm_unsupported_feature", False, "does not support what the program requests"),
    (ex.LMCollectionLimitError, "python", "lm_answer_too_large", False, "sent more than is accepted"),
    (ex.LMTransportError, "connection", "lm_connection", True, "cannot be reached, or its connection broke"),
    (ex.LMLockTimeoutError, "connection", "lm_connection", True, "waits for a credential that is locked"),
    (ex.LMError, "python", "lm_unexpected", False, "failed in a way that is not known"),
)

_HINTS = {
    "lm_auth": "check the key of the LM profile and what it may be used for",
    "lm_billing": "check the account of the LM profile",
    "lm_context_window": "shorten the inputs or the history, or take a model with a longer context",
    "lm_unsupported_model": "check the model's name in set_lm",
    "lm_not_configured": NOT_CONFIGURED_HINT,
    "lm_connection": "check the api_base of the LM profile and whether its server runs",
}


@dataclass(frozen=True)
class Model:
    """The language model that a failure comes from. One that a program made itself is not the business of the host's profiles."""

    name: str | None  # "<provider>/<model>"
    of_profile: bool

    def provider(self) -> str:
        """What a message calls it."""
        if self.of_profile:
            return f"the provider {self.name.partition('/')[0]}" if self.name else "the provider"
        return f"the language model {self.name}, which the program made itself,"


_OWN_HINTS = {
    "lm_auth": "check the key that the program gives to its dspy.LM",
    "lm_not_configured": "give its dspy.LM an api_key, or use the job's own, dspy.settings.lm: a worker's environment has no keys",
    "lm_connection": "check the api_base that the program gives to its dspy.LM, and whether its server runs",
}


def describe(
    error: BaseException,
    *,
    of: Model,
    inputs: Mapping[str, Any],
    trace: Trace,
    temperature: float | None,
    usage: dict[str, Any] | None = None,
) -> WorkerError | None:
    """The failure that DSPy's error stands for; None when it is not one of DSPy's."""
    leaves = inner_errors(error)
    found = _classify(leaves[0], of, inputs, temperature, trace.finish in ("length", "content_filter")) if len(leaves) == 1 else None
    if found is None:
        return None
    found.python_type = class_name(leaves[0])
    if of.name is not None and isinstance(leaves[0], ex.LMError):
        found.lm = {"name": of.name, "of_profile": of.of_profile}
    found.usage = usage or None
    if trace.finish == "length":
        found.hint = "the answer was cut at max_tokens: raise it"
    elif trace.finish == "content_filter":
        found.hint = "the provider's content filter stopped the answer"
    if trace.chunks:
        found.hint = f"{found.hint}; {_STREAMED}" if found.hint else _STREAMED
    return found


_STREAMED = "partial output had already been sent: a retry starts from the beginning"


def _classify(error: BaseException, of: Model, inputs: Mapping[str, Any], temperature: float | None, cut: bool) -> WorkerError | None:
    if isinstance(error, ex.AdapterParseError):
        return _unreadable(error, temperature, cut)
    if isinstance(error, ValueError) and text_of(error).startswith("No LM is loaded"):
        return not_configured()
    if isinstance(error, ImportError) and (needs := _NEEDS_LITELLM.match(text_of(error))):
        return _without_litellm(needs.group(1), of)
    for kind, category, code, retryable, what in _TABLE:
        if isinstance(error, kind):
            if code == "lm_connection" and _timed_out(error):
                category, code, what = "timeout", "lm_timeout", "did not answer in time"
            return _of_provider(error, of, inputs, (category, code, retryable, what))
    if isinstance(error, ex.DSPyError):
        return WorkerError("python", "dspy_error", f"DSPy failed: {class_name(error)}: {bounded(text_of(error))}")
    return None


def _of_provider(error: Any, of: Model, inputs: Mapping[str, Any], row: tuple[str, str, bool, str]) -> WorkerError:
    category, code, retryable, what = row
    status = f" (HTTP {error.status})" if isinstance(error.status, int) else ""
    # The transport's message has addresses of the operator's network; the code is enough.
    said = "" if category in ("connection", "timeout") else _said(error.message, inputs)
    return WorkerError(
        category,
        code,
        f"{of.provider()} {what}{status}{': ' + said if said else ''}",
        hint=_HINTS.get(code) if of.of_profile else _OWN_HINTS.get(code),
        retryable=retryable,
        retry_after_ms=_retry_after(error.retry_after) if retryable else None,
    )


_NEEDS_LITELLM = re.compile(r"litellm is required to use dspy\.(\w+)")


def _without_litellm(user: str, of: Model) -> WorkerError:
    """What only litellm can call; DSPy's own advice, to install it, reaches no worker's environment."""
    if user == "LM" and not of.of_profile:
        what = f"{of.provider()} is of a provider, or has settings, that only litellm supports"
        hint = "dspex env add litellm; or take a model with OpenAI's protocol, as openai/NAME with an api_base"
    else:
        what = f"dspy.{user} of a hosted model needs litellm"
        hint = "dspex env add litellm; or give dspy.Embedder a function that takes texts and returns their vectors"
    return WorkerError("python", "lm_engine_missing", f"{what}, which is not installed", hint=hint)


_BROKEN = re.compile(r"Failed to parse field (\w+)")


def _unreadable(error: Any, temperature: float | None, cut: bool) -> WorkerError:
    """An answer that the adapter cannot read. DSPy has mostly sent two requests by then, in two forms.

    One rule reports what another attempt is worth: only an answer that lacks outputs may come whole the next time, and only if the
    model's temperature lets it differ. A value that breaks its type's rule was understood and wrong, and what was cut will be again.
    """
    wanted = list(error.signature.output_fields)
    there = list(error.parsed_result or ()) if isinstance(error.parsed_result, Mapping) else []
    # The first of the two answers, in the form that was requested first, may have been nearer.
    parse_errors = [cause for cause in causes(error) if isinstance(cause, ex.AdapterParseError)]
    broken = next((found for cause in parse_errors if (found := _BROKEN.match(text_of(cause))) is not None), None)
    if broken is not None:
        rule = _rule(error)
        message = f"the model's answer breaks the rule of the output {broken.group(1)[:64]}{': ' + rule if rule else ''}"
    else:
        missing = [name for name in wanted if name not in there]
        message = f"the model's answer does not hold the output{'s' if len(missing) != 1 else ''} {', '.join(missing)}"
        message += f", only {', '.join(there)}" if there else f": it is not in the form that {text_of(error.adapter_name)[:64]} requires"
    return WorkerError(
        "python",
        "lm_answer_unreadable",
        bounded(message),
        hint="describe the outputs more closely, use fewer or simpler types, or take another model",
        retryable=broken is None and not cut and (temperature is None or temperature > 0),
    )


def _rule(error: BaseException) -> str:
    """What the value should have been by pydantic, without the value."""
    for cause in causes(error):
        if isinstance(cause, pydantic.ValidationError):
            found = cause.errors(include_url=False, include_context=False, include_input=False)
            return "; ".join(entry["msg"] for entry in found[:2])[:SAID]
    return ""


def not_configured() -> WorkerError:
    """The failure of a program that needs a language model where none is configured."""
    return WorkerError("python", "lm_not_configured", "no language model is configured for this job", hint=NOT_CONFIGURED_HINT)


def operation_timeout(budget_ms: int, trace: Trace, usage: dict[str, Any]) -> WorkerError:
    """The failure of a program that ran longer than its attempt may."""
    return WorkerError(
        "timeout",
        "operation_timeout",
        f"the program did not end within {budget_ms} ms",
        hint=_STREAMED if trace.chunks else "raise the option timeout if the model needs longer",
        retryable=True,
        usage=usage or None,
    )


def _retry_after(seconds: float | None) -> int | None:
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return None
    return min(math.ceil(seconds * 1000), MAX_RETRY_AFTER_MS)


def _timed_out(error: BaseException | None) -> bool:
    return error is not None and any(isinstance(e, TimeoutError) or class_name(e).endswith("Timeout") for e in causes(error))


_KEYS = re.compile(r"(?i)\b(?:sk|pk|rk|key|gsk|xai)[-_][\w*.-]{4,}|AIza[\w-]{10,}|bearer\s+\S+|\S*(?:api[-_]?key|token)=\S+|[\w+/=-]{32,}")


# DSPy's client adds advice about settings of its own, which nobody here can reach.
_ADVICE = re.compile(r"To fix:|credential came from:|Set [A-Z][A-Z0-9_]+ in the environment")


def _said(message: object, inputs: Mapping[str, Any]) -> str:
    """A piece of the provider's words on one line, or nothing when they repeat an input."""
    text = " ".join(_ADVICE.split(str(message or ""))[0].split())[:SAID]
    if any(_echoes(text, value) for value in _texts(inputs)):
        return ""
    return bounded(_KEYS.sub("[redacted]", text))


def _echoes(text: str, value: str) -> bool:
    value = " ".join(value.split())
    if len(value) <= SHARED:
        return len(value) >= 4 and value in text
    return any(text[i : i + SHARED] in value for i in range(len(text) - SHARED + 1))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
