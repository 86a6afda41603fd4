package ops

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// deadLetterFlags are the filter as flags.
type deadLetterFlags struct {
	dspex.DeadLetterFilter
	category string
	replayed bool
}

func (f *deadLetterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Session, "session", "", "only dead letters of this session")
	flags.BoolVar(&f.Anonymous, "anonymous", false, "only dead letters of anonymous jobs")
	flags.StringVar(&f.category, "category", "", "only dead letters whose last error is of this category")
	flags.StringVar(&f.Code, "code", "", "only dead letters whose last error has this code")
	flags.DurationVar(&f.OlderThan, "older-than", 0, "only dead letters that are older")
	flags.DurationVar(&f.NewerThan, "newer-than", 0, "only dead letters that are newer")
	flags.BoolVar(&f.replayed, "replayed", false, "only dead letters that were replayed; --replayed=false: that were not")
}

// filter checks the flags; given reports whether one restricts the choice.
func (f *deadLetterFlags) filter(cmd *cobra.Command) (filter dspex.DeadLetterFilter, given bool, err error) {
	for _, name := range []string{"session", "anonymous", "category", "code", "older-than", "newer-than", "replayed"} {
		given = given || cmd.Flags().Changed(name)
	}
	if err := cli.SessionGiven(cmd); err != nil {
		return filter, given, err
	}
	switch {
	case f.Session != "" && f.Anonymous:
		return filter, given, cli.Usage("--session and --anonymous exclude each other")
	case f.OlderThan < 0 || f.NewerThan < 0:
		return filter, given, cli.Usage("--older-than and --newer-than must not be negative")
	case f.Limit < 0:
		return filter, given, cli.Usage("--limit must not be negative")
	}
	f.Category = dspex.ErrorCategory(f.category)
	if cmd.Flags().Changed("replayed") {
		f.Replayed = &f.replayed
	}
	return f.DeadLetterFilter, given, nil
}

// deadLetterSequence reads the number of a dead letter.
func deadLetterSequence(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, cli.Usage("a dead letter must be a number, the first column of `dspex dlq list`, got %q", text)
	}
	return n, nil
}
