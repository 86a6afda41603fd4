// Package sandbox decides what the Python workers of a host are kept from, and whether this machine can keep them from it.
//
// The levels are promises, each with a test that tries to break it (docs/security.md). A level is given whole or refused: what the
// machine lacks is named. The restrictions themselves are put on by the worker's own process before it imports any code of a user
// (python/dspex_worker/system/sandbox.py); it does so by the Spec that it finds in its environment.
//
// The package is independent of workers and jobs.
package sandbox
