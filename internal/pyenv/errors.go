package pyenv

import (
	"slices"
	"strings"
)

// Error is why there is no environment, in words for the person at the terminal.
type Error struct {
	Problem string // what is wrong, in one sentence
	Hint    string // what to do about it
	Output  string // the last lines of the program that failed, if one did

	err error
}

func (e *Error) Error() string {
	text := e.Problem
	if e.Hint != "" {
		text += "\n" + e.Hint
	}
	if e.Output != "" {
		text += "\n\n" + e.Output
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// causes are messages of installers, in the order of trust: a wrong hash is never taken for a network problem.
var causes = []struct {
	says []string // in lower case
	hint string
}{
	{[]string{"do not match the hashes", "hash mismatch", "hashes are required"},
		"What was downloaded is not what the lock names. Do not install it by hand: find out which mirror or cache served it."},
	{[]string{"resolutionimpossible", "conflicting dependencies", "no solution found when resolving", "the user requested (constraint)"},
		"A package needs another version of one that dspex pins, or two of them contradict each other: the lines below name them. Ask for another version of that package."},
	{[]string{"no space left on device", "disk quota exceeded"},
		"The disk is full. The environment needs about 400 MB in the cache directory."},
	{[]string{"newconnectionerror", "failed to establish a new connection", "name resolution", "dns error", "connection refused", "network is unreachable",
		"connect timeout", "read timed out", "connection timed out", "operation timed out", "tcp connect error", "error sending request", "proxyerror", "no route to host", "(from versions: none)"},
		"The package index did not answer, or does not have the package. Check the network and the proxy (HTTPS_PROXY), name a mirror (PIP_INDEX_URL, for uv UV_DEFAULT_INDEX), or install from a directory of wheels."},
	{[]string{"sslerror", "certificate_verify_failed", "invalid peer certificate"},
		"The package index could not be trusted. If a proxy signs with its own certificate, set PIP_CERT, for uv SSL_CERT_FILE."},
	{[]string{"no matching distribution", "could not find a version", "has no wheels", "no wheels with a matching", "were not found in the package registry", "was not found in the provided package locations"},
		"A pinned package has no wheel for this Python and platform, or the index does not have it. Python 3.11 to 3.14 on Linux or macOS work; an index of your own must mirror the pinned versions."},
	{[]string{"permission denied", "read-only file system"},
		"The cache directory cannot be written. Set XDG_CACHE_HOME to one that can."},
}

// advice reads all output of an installer, of which an Error keeps only the end.
type advice struct{ cause int }

func newAdvice() *advice { return &advice{cause: len(causes)} }

func (a *advice) take(line string) {
	line = strings.ToLower(line)
	for i, cause := range causes[:a.cause] {
		if slices.ContainsFunc(cause.says, func(says string) bool { return strings.Contains(line, says) }) {
			a.cause = i
			return
		}
	}
}

func (a *advice) hint() string {
	if a.cause < len(causes) {
		return causes[a.cause].hint
	}
	return "Run the command shown above by hand to see its whole output."
}
