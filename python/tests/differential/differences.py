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
        "a worker serves many callers: what one asked must not lie in the memory that the next one's code can read",
    ),
    "litellm": Row(
        "what DSPy's own client cannot send, such as audio, files and documents to OpenAI's chat completions",
        "goes through litellm silently, where that is installed",
        "is `lm_unsupported_feature`; a profile may name the engine litellm",
        "another library than the one that was chosen would get prompts and keys",
    ),
    "places": Row(
        "observation of a tool that fails in `dspy.ReAct`",
        "is the traceback, with file names and lines",
        "is the same traceback, but for the frames around the tool",
        "the tool runs in a thread, under other functions",
    ),
    "usage_of_own_models": Row(
        "usage",
        "is counted where `track_usage` is on, and read by `get_lm_usage()`",
        "the same; besides, each job's `usage` has every model that answered in it, by the model's own name, also one of a class of your own",
        "what a job has used is known without a change to the program",
        cases=False,
    ),
    "cache": Row(
        "DSPy's response cache",
        "is on: the same request is answered from memory or disk",
        "is off, unless a module calls `dspy.configure_cache` at import; profiles never use it",
        "its key does not hold the key or the address of the model: one tenant would get another's answer",
        cases=False,
    ),
    "retries": Row(
        "retries of a failed call",
        "`num_retries=3` in `dspy.LM`",
        "none in the profile's model: the job is tried again, by its own policy",
        "both together would multiply, and wait with a worker's slot taken",
        cases=False,
    ),
    "response_format": Row(
        "structured outputs of models that DSPy's price list knows",
        "are asked for by `response_format`",
        "only if the profile says so: `supports.response_schema`",
        "what a server can do is not known from its model's name",
        cases=False,
    ),
    "environment": Row(
        "`os.environ`",
        "is the shell's",
        "has none of the host's variables but those that `--env` names, and no keys",
        "keys must not reach code of others",
        cases=False,
    ),
    "configure": Row(
        "`dspy.configure` in a program",
        "changes the process for good",
        "changes the job; the next one begins with what modules configured at import",
        "one job must not change another's settings",
        cases=False,
    ),
    "models_at_import": Row(
        "`dspy.configure(lm=...)` at import",
        "is the model",
        "is the model of jobs that have no profile; a profile, the session's or the job's choice goes before it",
        "the operator and the caller choose the model",
        cases=False,
    ),
    "synchronous_tools": Row(
        "a synchronous tool called from an asynchronous program",
        "runs on the event loop",
        "runs in a thread, with the job's context: it finds no running event loop, and context variables that it sets stay there",
        "on the loop it would hold up every other job",
        cases=False,
    ),
    "after_the_end": Row(
        "threads and tasks that a program leaves behind",
        "go on calling models",
        "are refused with `job_ended` when they call one",
        "nobody waits for the answer, and somebody pays for it",
        cases=False,
    ),
    "context_window": Row(
        "a prompt that is too long for llama.cpp, vLLM or Ollama",
        "is `LMInvalidRequestError`",
        "is `ContextWindowExceededError`, as with OpenAI, Anthropic and Gemini: `dspy.ReAct` shortens its trajectory",
        "each server says it in its own words, and DSPy's client knows those of three",
        cases=False,
    ),
    "inputs": Row(
        "inputs that are missing, unknown or of another type than annotated",
        "are a warning at most, and the model is called",
        "are refused with `bad_input` before the program runs",
        "an answer made from nothing costs money and helps nobody",
        cases=False,
    ),
    "processes": Row(
        "`ProcessPoolExecutor`, `multiprocessing` with locks and queues",
        "work",
        "are refused (`PermissionError`) at the levels `user` and `strict` of the sandbox, unless `--sandbox-write /dev/shm` allows them; `subprocess` and `os.fork` work",
        "their locks lie in /dev/shm, which all processes of the machine share",
        cases=False,
    ),
    "tools_in_requests": Row(
        "inputs of the type `dspy.Tool`",
        "are functions",
        "cannot come in a request",
        "a request holds values, not code",
        cases=False,
    ),
    "results": Row(
        "objects that have no form in JSON",
        "are returned as they are",
        "have the form of the table in your-modules.md, or are refused with `encode_error`",
        "a result travels as a value",
        cases=False,
    ),
}


def page() -> str:
    """docs/differences.md."""
    lines = [
        "# What differs from plain DSPy",
        "",
        "A program that runs in a script runs in a worker with the same prompts, results and failures. What differs is in this table, which is made from the differential suite",
        "(`python/tests/differential/`): its programs run in plain DSPy and in a worker, and a difference that is not here fails the tests.",
        "",
        "| what | plain DSPy | worker | why |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.plain} | {row.worker} | {row.reason} |" for row in ROWS.values()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
