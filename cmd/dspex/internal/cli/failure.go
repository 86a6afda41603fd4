package cli

import (
	"fmt"

	"github.com/dspex/dspex/internal/daemon"
)

// Failure ends the program with a status of its own; its text is for people.
type Failure struct {
	Status int
	Text   string
	Hint   string
}

func (f *Failure) Error() string { return f.Text }

// Usage is the error of wrong usage.
func Usage(format string, args ...any) error {
	return &Failure{Status: daemon.ExitUsage, Text: fmt.Sprintf(format, args...)}
}
