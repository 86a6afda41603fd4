package mock

var commands = map[string]command{
	"ping":    {run: ping},
	"predict": {run: predict},

	"create_program":   {createProgram, []string{"id", "signature", "program_type"}, true, true},
	"execute_program":  {executeProgram, []string{"program_id", "inputs"}, false, true},
	"list_programs":    {listPrograms, []string{}, false, true},
	"get_program_info": {programInfo, []string{"program_id"}, false, true},
	"delete_program":   {deleteProgram, []string{"program_id"}, true, true},

	"set_lm":              {setLM, []string{"model", "provider", "api_key", "temperature", "max_tokens"}, false, true},
	"configure_lm":        {setLM, []string{"model", "provider", "api_key", "temperature", "max_tokens"}, false, true},
	"get_stats":           {getStats, []string{}, false, false},
	"get_session_data":    {getData, []string{}, true, true},
	"update_session_data": {updateData, []string{"operation", "key", "value"}, true, true},
	"cleanup":             {cleanup, []string{}, false, true},
	"reset_state":         {resetState, []string{}, false, true},
	"cleanup_session":     {cleanupSession, []string{}, true, true},
	"erase_session":       {eraseSession, []string{}, true, true},
	"shutdown":            {shutdown, []string{"worker_id"}, false, false},
}

// command is one of dspex; its arguments are those that it takes.
type command struct {
	run     func(*call) (any, *failure)
	args    []string // nil: any
	session bool     // it needs one
	named   bool     // session_id may name the call's session
}
