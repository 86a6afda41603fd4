package jobs

// Model is a language model that a job can use.
type Model struct {
	Key     string // changes whenever the profile does; "": none is configured
	Profile []byte // body of the LM frame
	Breaker string // name of its circuit breaker
	Chosen  bool   // a client named it, and no profile of the host has it
}

// CallsLM reports whether a built-in command always calls a language model.
func CallsLM(command string) bool { return command == "predict" || command == "execute_program" }
