// Package procs tests the production processes as an operator runs them: dispatcher and worker-host with real Python workers
// (the stub engine), real signals and a real broker.
package procs
