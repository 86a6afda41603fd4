package cli

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/spf13/cobra"
)

// ListFlags are those of a command that lists what may be very many.
type ListFlags struct {
	limit int
	all   bool
}

// Add declares the flags.
func (f *ListFlags) Add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.limit, "limit", 100, "how many at most")
	cmd.Flags().BoolVar(&f.all, "all", false, "list all, page by page")
}

// Most returns how many are requested, 0 for all.
func (f *ListFlags) Most(cmd *cobra.Command) (int, error) {
	switch {
	case f.limit < 1:
		return 0, Usage("--limit must be 1 or more, got %d; --all lists all", f.limit)
	case f.all && cmd.Flags().Changed("limit"):
		return 0, Usage("--all and --limit exclude each other")
	case f.all:
		return 0, nil
	}
	return f.limit, nil
}

// Listing is how items are shown.
type Listing[T any] struct {
	Table Columns
	Row   func(T) []string
	Raw   func(T) json.RawMessage
	None  string // what is written when there are none
}

// listPage is how many items are aligned, and in memory, at a time.
const listPage = 500

// Say writes items as they come; --output json is one list at the end. most is the number that was requested.
func (l *Listing[T]) Say(a *App, items iter.Seq2[T, error], most int) error {
	whole := []json.RawMessage{} // of --output json alone
	var rows [][]string
	count := 0
	for item, err := range items {
		if err != nil {
			return err
		}
		count++
		switch a.Output {
		case "json":
			whole = append(whole, l.Raw(item))
		case "jsonl":
			if err := a.Say(l.Raw(item)); err != nil {
				return err
			}
		default:
			if rows = append(rows, l.Row(item)); len(rows) == listPage {
				l.Table.Write(a.Out, rows)
				rows = rows[:0]
			}
		}
	}
	switch {
	case a.Output == "json":
		return a.Say(whole)
	case a.Output == "jsonl":
		return nil
	case count == 0:
		fmt.Fprintln(a.Err, a.Paint(a.Err, Dim, l.None))
		return nil
	}
	l.Table.Write(a.Out, rows)
	if count == most {
		fmt.Fprintln(a.Err, a.Paint(a.Err, Dim, "there may be more: --limit, --all"))
	}
	return nil
}
