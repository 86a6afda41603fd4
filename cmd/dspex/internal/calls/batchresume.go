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
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// written are the results that a file has.
type written struct {
	has  []bool // by index
	jobs string // what the ids of the batch's jobs begin with; "" if the file does not have them
}

// skips reports whether the file has the result, which must be of the batch whose results the file has.
func (w *written) skips(r dspex.BatchResult) (bool, error) {
	if w.jobs != "" && w.jobs != batchOf(r.Job.ID) {
		return false, &cli.Failure{Status: 1, Text: "the file holds results of another batch: --resume must name a file of this batch", Hint: "name another file, or omit --resume to write it from the start"}
	}
	return !w.add(r.Index), nil
}

// add reports whether the result was not there.
func (w *written) add(index int) bool {
	if index >= len(w.has) {
		w.has = append(w.has, make([]bool, index+1-len(w.has))...)
	}
	was := w.has[index]
	w.has[index] = true
	return !was
}

// batchOf is what the ids of all jobs of a batch begin with.
func batchOf(job string) string { return job[:max(lastDash(job), 0)] }

func lastDash(job string) int { return strings.LastIndexByte(job, '-') }

// resumed opens the file that an interrupted command left, behind its last whole result, and reads which ones it has. A file that has its
// name already should be complete.
func (t *table) resumed(columns []outColumn) (f *os.File, complete bool, err error) {
	f, err = os.OpenFile(t.out+".part", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.Open(t.out); err == nil {
			if _, err = t.readSeen(f, columns); err != nil {
				err = errors.Join(fmt.Errorf("%s is no file of these results: %w", t.out, err), f.Close())
			}
			return f, true, err
		}
		f, err = os.Create(t.out + ".part")
		return f, false, err
	}
	if err != nil {
		return nil, false, err
	}
	end, err := t.readSeen(f, columns)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("%s.part cannot be continued: %w", t.out, err), f.Close())
	}
	t.begun = end > 0
	return f, false, nil
}

// readSeen reads which results a file has, and returns where the last whole one ends.
func (t *table) readSeen(f *os.File, columns []outColumn) (end int64, err error) {
	if t.is {
		return t.seen.readTable(f, columns)
	}
	return t.seen.readLines(f)
}

// confirm checks that the file has all results of the batch.
func (t *table) confirm(ctx context.Context, c *dspex.Client, id string, q dspex.BatchQuery) error {
	for r, err := range t.results(ctx, c, id, q) {
		if err != nil {
			return err
		}
		return &cli.Failure{Status: 1, Text: fmt.Sprintf("%s has no result %d: --resume must name a file of this batch", t.out, r.Index), Hint: "name another file, or omit --resume to write it from the start"}
	}
	fmt.Fprintf(t.notes, "%s is complete\n", t.out)
	return nil
}

// readLines reads whole lines, and returns where the last one ends.
func (w *written) readLines(in io.Reader) (end int64, err error) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		var r struct {
			Index *int
			Job   string
		}
		if json.Unmarshal(line, &r) != nil || r.Index == nil || !isIndex(*r.Index) || lastDash(r.Job) < 1 {
			return end, fmt.Errorf("byte %d: each line must be a result, with index and job", end)
		}
		if w.jobs == "" {
			w.jobs = batchOf(r.Job)
		}
		w.add(*r.Index)
		end += int64(len(line))
	}
}

// mostIndex bounds what a file may contain: a batch has at most a million jobs.
const mostIndex = 1_000_000

func isIndex(n int) bool { return n >= 0 && n < mostIndex }

// wholeLines is where the last line ends.
func wholeLines(in io.Reader) (end int64, err error) {
	at, some := int64(0), make([]byte, 64<<10)
	for {
		n, err := in.Read(some)
		if i := bytes.LastIndexByte(some[:n], '\n'); i >= 0 {
			end = at + int64(i) + 1
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
	}
}

// readTable reads whole rows, which need the column index.
func (w *written) readTable(in io.ReadSeeker, columns []outColumn) (end int64, err error) {
	at := slices.IndexFunc(columns, func(c outColumn) bool { return slices.Equal(c.path, []string{"index"}) })
	if at < 0 {
		return 0, errors.New("its columns must have index, the numbers of the results that are there")
	}
	whole, err := wholeLines(in)
	if err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, err
	}
	rows := csv.NewReader(io.LimitReader(in, whole))
	rows.FieldsPerRecord = len(columns)
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, csv.ErrQuote) || errors.Is(err, io.EOF) { // the last row ends in the middle of a cell
			return end, nil
		}
		if err != nil {
			return end, err
		}
		switch {
		case n == 0 && !slices.EqualFunc(row, columns, func(name string, c outColumn) bool { return name == c.name }):
			return 0, errors.New("its first row must name the same columns")
		case n > 0:
			index, err := strconv.Atoi(row[at])
			if err != nil || !isIndex(index) {
				return end, fmt.Errorf("row %d: index must be a number of the batch, got %q", n, row[at])
			}
			w.add(index)
		}
		end = rows.InputOffset()
	}
}
