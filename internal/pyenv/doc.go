// Package pyenv makes what a worker needs on this machine, once: a virtual environment from the hash-pinned lock that the
// binary carries, and the worker runtime as files with compiled bytecode. Both live in the user's cache directory under
// names derived from their content, so that a changed lock, runtime or interpreter makes a new one and never alters one in
// use.
//
// It also reports how to start a worker: the argument vector and the allow-listed environment. It starts no workers.
package pyenv
