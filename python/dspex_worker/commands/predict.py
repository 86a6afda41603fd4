"""The command predict: a program that is made for one call, and the conversation that it goes on with."""

from __future__ import annotations

from typing import Any

from dspex_worker.commands.imported import later
from dspex_worker.commands.programs import checked, read_module, read_program, remember
from dspex_worker.engines import Outcome, Program
from dspex_worker.signatures.signature import SpecError, check_module, infer_signature
from dspex_worker.worker import Call, bad_input, bad_option

__all__ = ["predict"]


def predict(call: Call) -> Any:
    """Runs a program made for this call. In a session it sees the conversation so far and becomes its next turn."""
    program = _asked(call)
    inputs = checked(call, program, call.args, "args")
    own_history = program.signature.has_history
    past = call.state.history if call.state is not None and own_history not in inputs else []
    context = call.context(past)

    def finish(outcome: Outcome) -> dict[str, Any]:
        call.usage = outcome.usage or call.usage
        remember(call, program, inputs, outcome)
        return outcome.outputs

    outcome = call.worker.engine.run_inline(program, inputs, context)
    if outcome is not None:
        return finish(outcome)
    return later(call.worker.engine.run(program, inputs, context), finish)


def _asked(call: Call) -> Program:
    """The program that a predict means by its options and its arguments."""
    options = call.options
    module = read_module(options.get("module", "predict"), bad_option, "module")
    outputs = options.get("outputs")
    if "signature" in options:
        if outputs is not None:
            raise bad_option("options.outputs has no effect beside options.signature", "outputs", "either signature or outputs")
        return read_program(call, options["signature"], module, "options")
    if outputs is not None and not (isinstance(outputs, list) and outputs and all(isinstance(name, str) for name in outputs)):
        raise bad_option("options.outputs is no list of names", "outputs", "a list of names")
    if not call.args:
        raise bad_input("predict: there is no input", "args", "at least one argument, such as question")
    try:
        program = Program(infer_signature(call.args, outputs), module)
        check_module(program.signature, module)
    except SpecError as error:
        if outputs is not None and (error.path.startswith("signature.outputs") or error.path.rpartition(".")[2] in outputs):
            raise bad_option(f"predict: {error.message}", "outputs", error.expected) from None
        if outputs is None and error.path == "signature.answer":
            expected = "inputs of other names than answer, which is the output unless options.outputs or options.signature names others"
            raise bad_input("predict: an input is called as the output", "args", expected) from None
        raise bad_input(f"predict: {error.message}", "args", error.expected) from None
    return program
