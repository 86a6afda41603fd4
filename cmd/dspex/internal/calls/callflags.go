package calls

import (
	"strings"
	"time"

	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// callFlags are the options of a job as flags.
type callFlags struct {
	body, session, job, signature, module, lm, backoff string
	lane                                               string
	outputs                                            []string
	timeout, deadline                                  time.Duration
	backoffCap                                         time.Duration
	retries                                            int
	temperature, jitter                                float64
	stream, submit, requireState, operator             bool
}

// options are the options whose flags were given: what was not given is left to the other side.
func (f *callFlags) options(cmd *cobra.Command) ([]dspex.JobOption, error) {
	var options []dspex.JobOption
	given := func(name string, option func() dspex.JobOption) {
		if cmd.Flags().Changed(name) {
			options = append(options, option())
		}
	}
	if !cmd.Flags().Changed("job") && !f.submit {
		f.job = nuid.Next()
	}
	if f.job != "" {
		options = append(options, dspex.WithJobID(f.job))
	}
	given("timeout", func() dspex.JobOption { return dspex.WithTimeout(f.timeout) })
	given("deadline", func() dspex.JobOption { return dspex.WithDeadline(f.deadline) })
	given("max-retries", func() dspex.JobOption { return dspex.WithMaxRetries(f.retries) })
	given("backoff-cap", func() dspex.JobOption { return dspex.WithBackoffCap(f.backoffCap) })
	given("jitter", func() dspex.JobOption { return dspex.WithJitter(f.jitter) })
	given("outputs", func() dspex.JobOption { return dspex.WithOutputs(f.outputs...) })
	given("module", func() dspex.JobOption { return dspex.WithModule(f.module) })
	given("lm", func() dspex.JobOption { return dspex.WithLM(f.lm) })
	given("temperature", func() dspex.JobOption { return dspex.WithTemperature(f.temperature) })
	if f.requireState {
		options = append(options, dspex.WithRequireState())
	}
	if cmd.Flags().Changed("signature") {
		var signature any = f.signature
		if strings.HasPrefix(strings.TrimSpace(f.signature), "{") {
			if err := cli.ReadJSON([]byte(f.signature), &signature); err != nil {
				return nil, cli.Usage("--signature looks like a JSON map, but is not: %v", err)
			}
		}
		options = append(options, dspex.WithSignature(signature))
	}
	if f.backoff != "" {
		b, err := parseBackoff(f.backoff)
		if err != nil {
			return nil, err
		}
		options = append(options, dspex.WithBackoff(b))
	}
	switch {
	case f.submit && f.stream:
		return nil, cli.Usage("--submit does not wait, so --stream would have no effect")
	case f.operator && (f.submit || f.stream):
		return nil, cli.Usage("--operator excludes --submit and --stream: published jobs have the client role, and operators' commands do not stream")
	case cmd.Flags().Changed("lane") && (!f.submit || f.session != ""):
		return nil, cli.Usage("--lane is for --submit without a session")
	}
	return options, nil
}

// callOptions are the options of a call.
func callOptions(options []dspex.JobOption) (of []dspex.CallOption) {
	for _, o := range options {
		of = append(of, o)
	}
	return of
}

// submitOptions are the options of a submitted job.
func submitOptions(options []dspex.JobOption) (of []dspex.SubmitOption) {
	for _, o := range options {
		of = append(of, o)
	}
	return of
}

func parseBackoff(text string) (dspex.Backoff, error) {
	switch text {
	case "linear":
		return dspex.Linear(), nil
	case "exponential":
		return dspex.Exponential(), nil
	}
	var delays []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return dspex.Backoff{}, cli.Usage("--backoff must be linear, exponential or delays such as 100ms,1s, got %q", text)
		}
		delays = append(delays, d)
	}
	return dspex.Delays(delays...), nil
}

// ref names the job. One without an id of its own gets one here, so that it can be looked for while it runs, and after an interrupt.
func (f *callFlags) ref() dspex.JobRef { return dspex.JobRef{Session: f.session, ID: f.job} }
