package calls

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// table is the form of a file of results.
type table struct {
	out     string
	is      bool     // CSV
	columns []string // NAME=PATH
	live    bool     // as jobs end
	resume  bool     // the file of an interrupted command goes on
	seen    written
	begun   bool // the file has something
	notes   io.Writer
}

// Columns of a CSV file of results, if no others are chosen.
var defaultColumns = []string{"index", "id", "session", "outcome", "attempts", "result", "error=error.code", "message=error.message"}

// inReply are the fields of a reply that a path may begin with.
var inReply = []string{"result", "error", "usage"}

const columnHelp = "column of a CSV file of results, NAME=PATH such as answer=result.answer or question=request.args.question; repeated, or separated by commas (default index, id, session, outcome, attempts, result, error, message)"

func (t *table) declare(cmd *cobra.Command, out, what string) {
	cmd.Flags().StringVar(&t.out, "out", out, what)
	cmd.Flags().BoolVar(&t.live, "as-completed", false, "write results as the jobs end, until the batch has ended, instead of in their order")
	cmd.Flags().BoolVar(&t.resume, "resume", false, "with --as-completed: go on with the file of an interrupted command (FILE.part), which has the numbers of its results")
	cmd.Flags().StringSliceVar(&t.columns, "column", nil, columnHelp)
}

type outColumn struct {
	name string
	path []string
}

// read takes the columns apart. Results are CSV if columns are chosen, or by the file's name.
func (t *table) read() (all []outColumn, err error) {
	t.is = t.is || len(t.columns) > 0 || strings.HasSuffix(strings.ToLower(t.out), ".csv")
	list := t.columns
	if len(list) == 0 {
		list = defaultColumns
	}
	for _, text := range list {
		name, path, ok := strings.Cut(text, "=")
		if !ok {
			path = name
		}
		c := outColumn{name, strings.Split(path, ".")}
		if slices.Contains(inReply, c.path[0]) {
			c.path = append([]string{"reply"}, c.path...)
		}
		if name == "" || slices.Contains(c.path, "") {
			return nil, cli.Usage("--column must be NAME=PATH, got %q", text)
		}
		if slices.ContainsFunc(all, func(o outColumn) bool { return o.name == name }) {
			return nil, cli.Usage("--column %s is given twice", name)
		}
		all = append(all, c)
	}
	return all, nil
}

// check refuses what does not fit, before anything is submitted.
func (t *table) check() error {
	if len(t.columns) > 0 && t.out == "" {
		return cli.Usage("--column is for results: name a file by --out")
	}
	if t.live && t.out == "" {
		return cli.Usage("--as-completed is for results: name a file by --out, - for standard output")
	}
	if t.resume && (!t.live || t.out == "-") {
		return cli.Usage("--resume goes with --as-completed and a file, --out FILE")
	}
	_, err := t.read()
	return err
}

// results are those that are there, in the order of the jobs, or each as soon as it is seen, until the batch has ended.
func (t *table) results(ctx context.Context, c *dspex.Client, id string, q dspex.BatchQuery) iter.Seq2[dspex.BatchResult, error] {
	if !t.live {
		return c.BatchResults(ctx, id, q)
	}
	return func(yield func(dspex.BatchResult, error) bool) {
		for {
			b, err := c.GetBatch(ctx, id) // if it has ended by now, all results are there
			if err != nil {
				yield(dspex.BatchResult{}, err)
				return
			}
			began := time.Now()
			for r, err := range c.BatchResults(ctx, id, q) {
				if err == nil {
					var skip bool
					if skip, err = t.seen.skips(r); skip {
						continue
					}
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
			if b.Phase == dspex.BatchEnded {
				return
			}
			select {
			case <-ctx.Done():
				yield(dspex.BatchResult{}, ctx.Err())
				return
			case <-time.After(max(livePause, liveTimes*time.Since(began))):
			}
		}
	}
}

// The pause between two readings of all results, and the least in times of what one took: a long batch is read less often.
const (
	livePause = 500 * time.Millisecond
	liveTimes = 4
)

// copyTable writes results as CSV.
func (t *table) copyTable(ctx context.Context, c *dspex.Client, id string, q dspex.BatchQuery, to io.Writer) error {
	columns, err := t.read()
	if err != nil {
		return err
	}
	q.Inputs = q.Inputs || slices.ContainsFunc(columns, func(c outColumn) bool { return c.path[0] == "request" })
	w := csv.NewWriter(to)
	row, rows, found := make([]string, len(columns)), 0, make([]bool, len(columns))
	for n, c := range columns {
		row[n] = c.name
	}
	if !t.begun {
		if err := w.Write(row); err != nil {
			return err
		}
	}
	for r, err := range t.results(ctx, c, id, q) {
		if err != nil {
			return err
		}
		var all any
		in := json.NewDecoder(bytes.NewReader(r.Raw))
		in.UseNumber()
		if err := in.Decode(&all); err != nil {
			return fmt.Errorf("result %d: %w", r.Index, err)
		}
		for n, c := range columns {
			row[n] = cellOf(all, c.path)
			found[n] = found[n] || row[n] != ""
		}
		rows++
		if err := w.Write(row); err != nil {
			return err
		}
		if t.live {
			w.Flush()
		}
	}
	for n, c := range columns {
		if len(t.columns) > 0 && rows > 0 && !found[n] && (c.path[0] == "request" || len(c.path) > 2 && c.path[1] == "result") {
			fmt.Fprintf(t.notes, "column %s is empty: no result has anything at %s\n", cli.Word(c.name), cli.Word(strings.Join(c.path, ".")))
		}
	}
	w.Flush()
	return w.Error()
}

// cellOf is the value at a path: text as it is, numbers and the like as JSON, nothing where there is none.
func cellOf(value any, path []string) string {
	for _, name := range path {
		in, isMap := value.(map[string]any)
		if !isMap {
			return ""
		}
		value = in[name]
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(b)
}

// write writes a file that is whole once it has its name.
func (t *table) write(ctx context.Context, a *cli.App, c *dspex.Client, id string, q dspex.BatchQuery) error {
	if _, err := t.read(); err != nil {
		return err
	}
	t.notes = a.Err
	copyResults := t.copyLines
	if t.is {
		copyResults = t.copyTable
	}
	out := t.out
	if out == "-" {
		return copyResults(ctx, c, id, q, a.Out)
	}
	f, complete, err := t.open()
	if err != nil {
		return &cli.Failure{Status: 1, Text: err.Error()}
	}
	if complete {
		defer func() { _ = f.Close() }() // it was read
		return t.confirm(ctx, c, id, q)
	}
	err = copyResults(ctx, c, id, q, f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(out+".part", out)
	}
	return err
}

// open makes the file, or goes on with it.
func (t *table) open() (f *os.File, complete bool, err error) {
	if !t.resume {
		f, err = os.Create(t.out + ".part")
		return f, false, err
	}
	columns, err := t.read()
	if err != nil {
		return nil, false, err
	}
	return t.resumed(columns)
}

func (t *table) copyLines(ctx context.Context, c *dspex.Client, id string, q dspex.BatchQuery, to io.Writer) error {
	w := bufio.NewWriter(to)
	for r, err := range t.results(ctx, c, id, q) {
		if err != nil {
			return errors.Join(err, w.Flush())
		}
		if _, err := w.Write(append(r.Raw, '\n')); err != nil {
			return err
		}
		if t.live {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}
