package main

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/spf13/cobra"
)

// listFlags are those of a command that lists what may be very many.
type listFlags struct {
	limit int
	all   bool
}

func (f *listFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.limit, "limit", 100, "how many at most")
	cmd.Flags().BoolVar(&f.all, "all", false, "list all, page by page")
}

// most returns how many are wanted, 0 for all.
func (f *listFlags) most(cmd *cobra.Command) (int, error) {
	switch {
	case f.limit < 1:
		return 0, usage("--limit must be 1 or more, got %d; --all lists all", f.limit)
	case f.all && cmd.Flags().Changed("limit"):
		return 0, usage("--all and --limit exclude each other")
	case f.all:
		return 0, nil
	}
	return f.limit, nil
}

// listing is how items are shown.
type listing[T any] struct {
	table columns
	row   func(T) []string
	raw   func(T) json.RawMessage
	none  string // what is said when there are none
}

// listPage is how many items are aligned, and in memory, at a time.
const listPage = 500

// say writes items as they come; --output json is one list at the end. most is the number that was asked for.
func (l *listing[T]) say(a *app, items iter.Seq2[T, error], most int) error {
	whole := []json.RawMessage{} // of --output json alone
	var rows [][]string
	count := 0
	for item, err := range items {
		if err != nil {
			return err
		}
		count++
		switch a.output {
		case "json":
			whole = append(whole, l.raw(item))
		case "jsonl":
			if err := a.say(l.raw(item)); err != nil {
				return err
			}
		default:
			if rows = append(rows, l.row(item)); len(rows) == listPage {
				l.table.write(a.out, rows)
				rows = rows[:0]
			}
		}
	}
	switch {
	case a.output == "json":
		return a.say(whole)
	case a.output == "jsonl":
		return nil
	case count == 0:
		fmt.Fprintln(a.err, a.paint(a.err, dim, l.none))
		return nil
	}
	l.table.write(a.out, rows)
	if count == most {
		fmt.Fprintln(a.err, a.paint(a.err, dim, "there may be more: --limit, --all"))
	}
	return nil
}
