package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// jobBody is the body of a request that runs a command: contract/job.md, "Request body".
type jobBody struct {
	Command string                     `json:"command" pattern:"^[a-z][a-z0-9_]{0,63}$" doc:"What to run: contract/commands.md, or a command of your own modules" example:"predict"`
	Args    map[string]json.RawMessage `json:"args,omitempty" doc:"The command's arguments"`
	Options jobOptions                 `json:"options,omitzero" doc:"How to run it"`

	ready dspex.Args // instead of Args, if they are read already
}

// arguments are passed on as they came: a number keeps its digits.
func (b *jobBody) arguments() dspex.Args {
	if b.ready != nil {
		return b.ready
	}
	args := make(dspex.Args, len(b.Args))
	for name, value := range b.Args {
		args[name] = value
	}
	return args
}

// session is the session that the arguments name, or else the one of the path.
func (b *jobBody) session(of string) string {
	var named string
	if of == "" && contract.TakesSession(b.Command) && json.Unmarshal(b.Args[contract.ArgSession], &named) == nil && named != "" {
		return named
	}
	return of
}

type jobOptions struct {
	Timeout      *duration       `json:"timeout,omitempty" doc:"Bound on one attempt"`
	MaxRetries   *int            `json:"max_retries,omitempty" minimum:"0" maximum:"20" doc:"Retries after the first attempt; the default depends on the error's category"`
	Backoff      *backoff        `json:"backoff,omitempty" doc:"Delays between attempts"`
	BackoffCap   *duration       `json:"backoff_cap,omitempty" doc:"Bound on each delay"`
	Jitter       *float64        `json:"jitter,omitempty" minimum:"0" maximum:"0.25" doc:"Share by which delays are spread"`
	Deadline     *duration       `json:"deadline,omitempty" doc:"Bound on the whole job, from its acceptance"`
	Signature    json.RawMessage `json:"signature,omitempty" doc:"Of predict: text or a map"`
	Outputs      []string        `json:"outputs,omitempty" nullable:"false" doc:"Of predict without a signature: names of the outputs"`
	Module       *string         `json:"module,omitempty" enum:"predict,chain_of_thought,react" doc:"Of predict: the DSPy module"`
	LM           *string         `json:"lm,omitempty" doc:"Profile of the language model, for this job only"`
	Temperature  *float64        `json:"temperature,omitempty" minimum:"0" maximum:"2" doc:"For this job only"`
	RequireState bool            `json:"require_state,omitempty" doc:"Refuse to run on an empty session"`
}

// options are those of the Go client.
func (o *jobOptions) options() []dspex.JobOption {
	var all []dspex.JobOption
	for _, d := range []struct {
		given *duration
		make  func(time.Duration) dspex.JobOption
	}{{o.Timeout, dspex.WithTimeout}, {o.BackoffCap, dspex.WithBackoffCap}, {o.Deadline, dspex.WithDeadline}} {
		if d.given != nil {
			all = append(all, d.make(time.Duration(*d.given)))
		}
	}
	if o.MaxRetries != nil {
		all = append(all, dspex.WithMaxRetries(*o.MaxRetries))
	}
	if o.Backoff != nil {
		all = append(all, dspex.WithBackoff(o.Backoff.Backoff))
	}
	if o.Jitter != nil {
		all = append(all, dspex.WithJitter(*o.Jitter))
	}
	if len(o.Signature) > 0 {
		all = append(all, dspex.WithSignature(o.Signature))
	}
	if o.Outputs != nil {
		all = append(all, dspex.WithOutputs(o.Outputs...))
	}
	if o.Module != nil {
		all = append(all, dspex.WithModule(*o.Module))
	}
	if o.LM != nil {
		all = append(all, dspex.WithLM(*o.LM))
	}
	if o.Temperature != nil {
		all = append(all, dspex.WithTemperature(*o.Temperature))
	}
	if o.RequireState {
		all = append(all, dspex.WithRequireState())
	}
	return all
}

// duration is milliseconds, or text with a unit.
type duration time.Duration

const durationPattern = `^[0-9]{1,9}(ms|s|m|h)$`

var durationText = regexp.MustCompile(durationPattern)

// Schema describes the two forms.
func (duration) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Minimum: new(1.0), Description: "Milliseconds"},
		{Type: huma.TypeString, Pattern: durationPattern, Description: "With a unit, such as 30s"},
	}}
}

// UnmarshalJSON reads either form.
func (d *duration) UnmarshalJSON(b []byte) error {
	var ms int64
	var text string
	switch {
	case json.Unmarshal(b, &ms) == nil:
		if ms > longest { // more than any option takes; the client refuses it by its bound
			ms = longest
		}
		*d = duration(time.Duration(ms) * time.Millisecond)
		return nil
	case json.Unmarshal(b, &text) == nil && durationText.MatchString(text):
		parsed, err := time.ParseDuration(text)
		*d = duration(parsed)
		return err
	}
	return fmt.Errorf("a duration must be milliseconds or text with a unit, such as 30s")
}

const longest = int64(48 * time.Hour / time.Millisecond)

// backoff is a strategy's name or a list of delays.
type backoff struct{ dspex.Backoff }

// Schema describes the two forms.
func (backoff) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, Enum: []any{"linear", "exponential"}},
		{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0), Maximum: new(30000.0)}, MinItems: new(1), MaxItems: new(20), Description: "Delays in milliseconds; the last one repeats"},
	}}
}

// UnmarshalJSON reads either form.
func (s *backoff) UnmarshalJSON(b []byte) error {
	switch string(bytes.TrimSpace(b)) {
	case `"linear"`:
		s.Backoff = dspex.Linear()
		return nil
	case `"exponential"`:
		s.Backoff = dspex.Exponential()
		return nil
	}
	var list []int64
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("a backoff must be linear, exponential or a list of delays in milliseconds")
	}
	delays := make([]time.Duration, len(list))
	for i, ms := range list {
		delays[i] = time.Duration(ms) * time.Millisecond
	}
	s.Backoff = dspex.Delays(delays...)
	return nil
}
