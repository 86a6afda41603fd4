package daemon

// Exit statuses of all programs. The command line dspex has two more.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
)

// failure ends the program with a status of its own; its texts are for people.
type failure struct {
	status int
	text   string
	hint   string
}

func (f *failure) Error() string { return f.text }
