"""The agent of the part "calls", as a program of an operator's module."""

import dspy

from dspex_worker import program


def population(city: str) -> str:
    """How many people live there."""
    return f"{city}: 2 million"


program("agent")(dspy.ReAct("question -> answer", tools=[population]))
