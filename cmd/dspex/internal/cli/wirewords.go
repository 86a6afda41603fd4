package cli

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dspex/dspex"
)

// options are those of a request that the command line has as flags, under the names of the wire.
var options = []string{"backoff", "backoff_cap", "deadline", "jitter", "lm", "max_retries", "module", "outputs", "require_state", "signature", "stream", "temperature", "timeout"}

var option = regexp.MustCompile(`\boptions\.([a-z_]+)`)

// wireWords are what hints call other things by, and what the command line has for them. A longer one stands before its parts.
var wireWords = strings.NewReplacer(
	"options.deadline, Dspex-Deadline", "--deadline",
	"publish the job to dspex.session.<id> or dspex.anonymous.<lane>", "use --submit",
	"by its id (dspex.rpc.jobs.get)", "by its id (`dspex jobs get`)",
	"set `replace`", "use --replace",
	"with skip_invalid", "with --skip-invalid",
	"Dspex-Job", "--job",
)

// inFlags is an error in the words of the command line: what a message, a path or a hint names as the wire does is a flag here.
func inFlags(e *dspex.Error) *dspex.Error {
	own := *e
	if name, ok := strings.CutPrefix(e.Path, "options."); ok && slices.Contains(options, name) {
		own.Path = flag(name)
		if rest, ok := strings.CutPrefix(e.Message, name+" "); ok {
			own.Message = own.Path + " " + rest
		}
	}
	again := "in a moment"
	if e.RetryAfter > 0 {
		again = "in " + e.RetryAfter.String()
	}
	own.Hint = wireWords.Replace(strings.ReplaceAll(e.Hint, "retry after retry_after_ms", "try again "+again))
	if strings.Contains(own.Hint, "(WithJobID)") {
		own.Hint = ofALostReply(e.Job)
	}
	own.Hint = option.ReplaceAllStringFunc(own.Hint, func(text string) string {
		if name := strings.TrimPrefix(text, "options."); slices.Contains(options, name) {
			return flag(name)
		}
		return text
	})
	return &own
}

// ofALostReply is what to do when a reply did not come in time.
func ofALostReply(job dspex.JobRef) string {
	if job.ID == "" {
		return "the job may still run; with --job ID its outcome can be fetched, and a repeat is safe"
	}
	of := job.ID
	if job.Session != "" {
		of += " --session " + job.Session
	}
	return "the job may still run: `dspex jobs wait " + of + "` waits for its outcome"
}

func flag(option string) string { return "--" + strings.ReplaceAll(option, "_", "-") }
