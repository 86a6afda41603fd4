package gateway

import (
	"encoding/json"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dspex/dspex"
)

// RunInput is a request that runs a command. Its name is exported for huma, which fills no embedded fields of others.
type RunInput struct {
	Key    string `header:"Idempotency-Key" doc:"Id of the job: the same request under the same key gets the first outcome. [A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>"`
	Prefer string `header:"Prefer" doc:"respond-async: as wait=false"`
	Accept string `header:"Accept" doc:"text/event-stream: partial output comes as events, and the reply as the last one"`
	Wait   string `query:"wait" enum:"true,false" doc:"Default true. false: the job is stored, and the answer is 202 with its Location"`
	Leave  bool   `query:"cancel_on_disconnect" doc:"The job is cancelled if the client disconnects before the answer. Without it the job continues"`
	Body   jobBody

	LastEvent string `header:"Last-Event-ID" doc:"Of a broken stream: with the same Idempotency-Key and body the events after this one are sent"`
	RawBody   []byte
}

// Resolve refuses null where the contract has a map or a value: huma takes it for something that is left out.
func (in *RunInput) Resolve(huma.Context) []error {
	var given struct{ Args, Options json.RawMessage }
	if json.Unmarshal(in.RawBody, &given) != nil {
		return nil // reported already
	}
	var wrong []error
	var options map[string]json.RawMessage
	_ = json.Unmarshal(given.Options, &options)
	for name, value := range map[string]json.RawMessage{"args": given.Args, "options": given.Options} {
		if string(value) == "null" {
			wrong = append(wrong, &huma.ErrorDetail{Message: name + " is not a map", Location: "body." + name})
		}
	}
	for name, value := range options {
		if string(value) == "null" {
			wrong = append(wrong, &huma.ErrorDetail{Message: name + " is null: leave it out", Location: "body.options." + name})
		}
	}
	return wrong
}

type inSessionInput struct {
	Session string `path:"session" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The session: its jobs run one at a time, in the order accepted"`
	RunInput
}

type anonymousInput struct {
	Lane string `query:"lane" enum:"interactive,batch" doc:"Of a stored job: batch has lower priority. Default interactive"`
	RunInput
}

// answer is a reply of the contract, as it came, or its events. What is empty is left out.
type answer struct {
	Location string `header:"Location"`
	Job      string `header:"Dspex-Job"`
	Attempt  string `header:"Dspex-Attempt"`
	Type     string `header:"Content-Type"`
	Body     func(huma.Context)

	reply []byte `json:"-"` // of a call: what Body writes
}

// whole is the body of an answer that is there already.
func whole(status int, body []byte) func(huma.Context) {
	return func(c huma.Context) {
		c.SetStatus(status)
		_, _ = c.BodyWriter().Write(body)
	}
}

func (in *RunInput) callOptions(job dspex.JobRef) []dspex.CallOption {
	options := []dspex.CallOption{dspex.WithJobID(job.ID)}
	for _, o := range in.Body.Options.options() {
		options = append(options, o)
	}
	return options
}

// JobInput names a job.
type JobInput struct {
	ID      string `path:"id" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The job's id"`
	Session string `query:"session" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The job's session; left out for an anonymous job"`
}

func (in *JobInput) job() dspex.JobRef { return dspex.JobRef{Session: in.Session, ID: in.ID} }

type getJobInput struct {
	JobInput
	WaitMS int `query:"wait_ms" minimum:"0" maximum:"600000" doc:"How long to wait for the end of the job, in milliseconds. The answer comes earlier if it ends"`
}

// accepts reports whether the header Accept names a type before all others.
func accepts(header, kind string) bool {
	first, _, _ := strings.Cut(header, ",")
	named, _, _ := strings.Cut(first, ";")
	return strings.EqualFold(strings.TrimSpace(named), kind)
}

const eventStream = "text/event-stream"

// prefers reports whether the header Prefer (RFC 7240) names a preference.
func prefers(header, name string) bool {
	for part := range strings.SplitSeq(header, ",") {
		token, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(token), name) {
			return true
		}
	}
	return false
}
