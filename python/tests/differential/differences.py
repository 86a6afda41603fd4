"""What differs between plain DSPy and a worker, each with its reason. docs/differences.md is made from this table:

python -m tests.differential.differences > ../docs/differences.md
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "page"]


@dataclass(frozen=True)
class Row:
    """One difference. cases: whether there are cases in the suite that have it, which then must differ."""

    what: str
    plain: str
    worker: str
    reason: str
    cases: bool = True


ROWS: dict[str, Row] = {
    "history": Row(
        "`lm.history`, `module.history`, `dspy.inspect_history()`",
        "hold the last calls of the process",
        "are empty; tracing works by callbacks",
        "a worker serves many callers: the code of one must not be able to read the prompts of another",
    ),
    "litellm": Row(
        "inputs that DSPy's own client cannot send, such as audio, files and documents to OpenAI's chat completions",
        "are sent through litellm silently, if it is installed",
        "are `lm_unsupported_feature`; a profile may name the engine litellm",
        "a library that nobody chose would get prompts and keys",
    ),
    "places": Row(
        "observation of a tool that fails in `dspy.ReAct`",
        "is the traceback, with file names and lines",
        "is the same traceback, except for the frames around the tool",
        "the tool runs in a thread, under other functions",
    ),
    "usage_of_own_models": Row(
        "usage",
        "is counted where `track_usage` is on, and read by `get_lm_usage()`",
        "the same; in addition, each job's `usage` has every model that answered in it, by the model's own name, including models of your own classes",
        "usage is recorded without a change to the program",
        cases=False,
    ),
    "cache": Row(
        "DSPy's response cache",
        "is on: the same request is answered from memory or disk",
        "is off, unless a module calls `dspy.configure_cache` at import; profiles never use it",
        "its cache key includes neither the API key nor the address of the model: one tenant would get another's answer",
        cases=False,
    ),
    "retries": Row(
        "retries of a failed call",
        "`num_retries=3` in `dspy.LM`",
        "none in the profile's model: the job is retried by its own policy",
        "both together would multiply, and occupy a worker's slot while they wait",
        cases=False,
    ),
    "response_format": Row(
        "structured outputs of models that DSPy's price list knows",
        "are requested by `response_format`",
        "only if the profile sets `supports.response_schema`",
        "a model's name does not tell what its server supports",
        cases=False,
    ),
    "environment": Row(
        "`os.environ`",
        "is the shell's",
        "has none of the host's variables except those that `--env` names, and no keys",
        "other users' code must not get keys",
        cases=False,
    ),
    "configure": Row(
        "`dspy.configure` in a program",
        "changes the process permanently",
        "changes the job; the next one starts with the modules' settings at import",
        "one job must not change another's settings",
        cases=False,
    ),
    "models_at_import": Row(
        "`dspy.configure(lm=...)` at import",
        "is the model",
        "is the model of jobs without a profile; a profile and the session's or job's choice take precedence",
        "the operator and the caller choose the model",
        cases=False,
    ),
    "synchronous_tools": Row(
        "a synchronous tool called from an asynchronous program",
        "runs on the event loop",
        "runs in a thread, with the job's context: it finds no running event loop, and context variables that it sets stay there",
        "on the loop it would block every other job",
        cases=False,
    ),
    "after_the_end": Row(
        "threads and tasks that a program leaves behind",
        "keep calling models",
        "are refused with `job_ended` when they call one",
        "the answer would cost money and reach nobody",
        cases=False,
    ),
    "context_window": Row(
        "a prompt that is too long for llama.cpp, vLLM or Ollama",
        "is `LMInvalidRequestError`",
        "is `ContextWindowExceededError`, as with OpenAI, Anthropic and Gemini: `dspy.ReAct` shortens its trajectory",
        "each server words this error differently, and DSPy's client recognises three of them",
        cases=False,
    ),
    "inputs": Row(
        "inputs that are missing, unknown or of another type than annotated",
        "cause at most a warning, and the model is called",
        "are refused with `bad_input` before the program runs",
        "an answer to incomplete inputs costs money and helps nobody",
        cases=False,
    ),
    "processes": Row(
        "`ProcessPoolExecutor`, `multiprocessing` with locks and queues",
        "work",
        "are refused (`PermissionError`) at the levels `user` and `strict` of the sandbox, unless `--sandbox-write /dev/shm` allows them; `subprocess` and `os.fork` work",
        "their locks are in /dev/shm, which all processes of the machine share",
        cases=False,
    ),
    "tools_in_requests": Row(
        "inputs of the type `dspy.Tool`",
        "are functions",
        "cannot come in a request",
        "a request contains values, not code",
        cases=False,
    ),
    "results": Row(
        "objects without a JSON form",
        "are returned unchanged",
        "are converted by the table in your-modules.md, or refused with `encode_error`",
        "a result is sent as a value",
        cases=False,
    ),
}


def page() -> str:
    """docs/differences.md."""
    lines = [
        "# What differs from plain DSPy",
        "",
        "A program that runs in a script runs in a worker with the same prompts, results and failures. This table lists the differences. It comes",
        "from the differential suite (`python/tests/differential/`), whose programs run in plain DSPy and in a worker: a difference that is not",
        "listed here fails the tests.",
        "",
        "| what | plain DSPy | worker | why |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.plain} | {row.worker} | {row.reason} |" for row in ROWS.values()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
