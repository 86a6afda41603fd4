// Package pyproc runs the worker processes of a host and lends out their slots. It starts each worker with two private
// pipes for frames (contract/frame.md) and two log pipes, shakes hands, keeps several calls in flight per worker, watches
// it with PING, replaces it when it dies, and ends it politely first and by SIGKILL last. Whatever a worker does (crash,
// hang, flood, speak garbage), its calls end with an error and the host goes on.
//
// Below it, proc is a process as the operating system has it, and pace decides when a worker is asked, replaced and started again.
//
// It knows no jobs, no sessions and no Python: bytes in, bytes out, to any program that speaks frames. It never sends a
// call twice. Linux is the platform it is made for; macOS works without the guarantee that a worker dies with its host.
package pyproc
