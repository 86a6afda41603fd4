// Package python carries the Python side inside the Go binaries: the source of the worker runtime and the hash-pinned lists
// of what it needs. It only holds the bytes; internal/pyenv puts them on disk.
package python

import (
	"embed"
	"io/fs"
)

// The globs name files because a directory pattern would leave out __init__.py and a whole tree would take in bytecode.
//
//go:embed dspex_worker/*.py dspex_worker/*/*.py dspex_worker/*/*/*.py dspex_worker/*/*/*/*.py
var worker embed.FS

// WorkerLock pins, by version and hash, what a worker needs to run DSPy.
//
//go:embed requirements/worker.txt
var WorkerLock []byte

// LitellmLock pins what the optional litellm engine needs on top of WorkerLock.
//
//go:embed requirements/litellm.txt
var LitellmLock []byte

// Worker is the tree of the worker runtime: Python source under dspex_worker/.
func Worker() fs.FS { return worker }
