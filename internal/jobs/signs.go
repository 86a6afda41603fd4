package jobs

// Sign is what the end of an attempt shows of something that it relied on.
type Sign int

// The signs.
const (
	NoSign Sign = iota
	Works
	Fails
)

// Signs are what an error shows of the three things that have circuit breakers.
type Signs struct {
	Start Sign // of workers
	Pool  Sign // the workers that run; one that answers works, whatever it answers
	LM    Sign // the language model that the job used
}

// signs are the errors that are evidence, by code. A provider that refuses a request for what stands in it works. What is
// not here is no evidence: the broker's and the client's errors, exceptions of user code, cancellations, time that ran out
// while it is unknown where it was spent.
var signs = map[string]Signs{
	CodeWorkerStart: {Start: Fails},

	CodeWorkerDied: {Pool: Fails},
	CodeWorkerHung: {Pool: Fails},
	CodeBadFrame:   {Pool: Fails},

	CodeLMRateLimit:    {LM: Fails},
	CodeLMServer:       {LM: Fails},
	"lm_timeout":       {LM: Fails},
	"lm_connection":    {LM: Fails},
	"lm_auth":          {LM: Fails},
	"lm_billing":       {LM: Fails},
	"lm_stream_broken": {LM: Fails},
	"lm_bad_answer":    {LM: Fails},

	"lm_invalid_request":   {LM: Works},
	"lm_context_window":    {LM: Works},
	"lm_unsupported_model": {LM: Works},
	"lm_bad_output":        {LM: Works},
	"lm_answer_unreadable": {LM: Works},
}

// Signs reports what the error is evidence of. What a program made itself has no breaker.
func (e *Error) Signs() Signs {
	s := signs[e.Code]
	if e.OtherLM {
		s.LM = NoSign
	}
	return s
}
