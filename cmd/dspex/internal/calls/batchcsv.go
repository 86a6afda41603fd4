package calls

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// sheet is how the rows of a CSV file become jobs.
type sheet struct {
	is          bool
	command     string
	args        []string // NAME=COLUMN, NAME:=COLUMN
	body        string   // arguments of all jobs
	id, session string   // columns
	delimiter   string
}

func (s *sheet) declare(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&s.is, "csv", false, "the file is CSV, whatever its name")
	f.StringVar(&s.command, "command", "", "command of all rows of a CSV file")
	f.StringSliceVar(&s.args, "arg", nil, "argument of a CSV file's rows, NAME=COLUMN, or NAME:=COLUMN for JSON; repeated, or separated by commas (default: each column, under its name)")
	f.StringVar(&s.body, "json", "", "more arguments of all rows of a CSV file, as a JSON map")
	f.StringVar(&s.id, "id-column", "", "column of a CSV file that names its rows")
	f.StringVar(&s.session, "session-column", "", "column of a CSV file with each row's session")
	f.StringVar(&s.delimiter, "delimiter", ",", "what is between the columns of a CSV file")
}

// check refuses what does not fit together.
func (s *sheet) check(file string) error {
	s.is = s.is || strings.HasSuffix(strings.ToLower(file), ".csv")
	given := s.command != "" || len(s.args) > 0 || s.body != "" || s.id != "" || s.session != "" || s.delimiter != ","
	switch {
	case !s.is && given:
		return cli.Usage("--command, --arg, --json, --id-column, --session-column and --delimiter are for CSV: the file's name must end in .csv, or --csv be given")
	case s.is && s.command == "":
		return cli.Usage("a CSV file needs --command: what its rows run, such as --command predict")
	case utf8.RuneCountInString(s.delimiter) != 1 || strings.ContainsAny(s.delimiter, "\"\r\n"):
		return cli.Usage("--delimiter must be one character, got %q", s.delimiter)
	}
	return nil
}

// cell is where an argument comes from.
type cell struct {
	path   []string // of the argument
	column int
	json   bool
}

// csvRows reads a CSV file. What is known of a row, other than the job, is in places.
type csvRows struct {
	sheet
	in     *bounded
	csv    *csv.Reader
	places *places
	width  int
	cells  []cell
	id     int // column, -1: none
	sess   int
}

// jobsOf are the jobs of a CSV file.
func (s *sheet) jobsOf(in io.Reader, at *places) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		r := &csvRows{sheet: *s, in: &bounded{in: withoutMark(in), left: mostLine}, places: at}
		r.csv = csv.NewReader(r.in)
		r.csv.FieldsPerRecord, r.csv.ReuseRecord = -1, true
		r.csv.Comma, _ = utf8.DecodeRuneInString(s.delimiter)
		if err := r.head(); err != nil {
			yield(dspex.BatchJob{}, err)
			return
		}
		for index := 0; ; index++ {
			r.in.left = mostLine
			record, err := r.csv.Read()
			bad := (*csv.ParseError)(nil)
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.As(err, &bad) && errors.Is(err, csv.ErrQuote), errors.As(err, &bad) && errors.Is(err, csv.ErrBareQuote):
				at.add(index, bad.StartLine, "its quotes must be closed, and doubled inside of quotes")
			case err != nil:
				yield(dspex.BatchJob{}, &cli.Failure{Status: 1, Text: fmt.Sprintf("the CSV file cannot be read: %v", err)})
				return
			default:
				line, _ := r.csv.FieldPos(0)
				at.add(index, line, "")
			}
			job := dspex.BatchJob{Raw: json.RawMessage("null")}
			if at.bad[index] == "" {
				made, rule := r.job(record)
				if job = made; rule != "" {
					at.add(index, 0, rule)
					job = dspex.BatchJob{Raw: json.RawMessage("null")}
				}
			}
			if !yield(job, nil) {
				return
			}
		}
	}
}

// head reads the names of the columns.
func (r *csvRows) head() error {
	record, err := r.csv.Read()
	if err != nil {
		return &cli.Failure{Status: 1, Text: fmt.Sprintf("line 1 must have the names of the columns: %v", err)}
	}
	names := slices.Clone(record)
	r.width = len(names)
	column := func(flag, name string) (int, error) {
		n := slices.Index(names, name)
		switch {
		case n < 0:
			return 0, cli.Usage("%s: the file has no column %q, but %q", flag, name, names)
		case slices.Contains(names[n+1:], name):
			return 0, cli.Usage("%s: the file has two columns %q", flag, name)
		}
		return n, nil
	}
	r.id, r.sess = -1, -1
	for _, of := range []struct {
		flag, name string
		to         *int
	}{{"--id-column", r.sheet.id, &r.id}, {"--session-column", r.session, &r.sess}} {
		if of.name != "" {
			if *of.to, err = column(of.flag, of.name); err != nil {
				return err
			}
		}
	}
	list := r.args
	if len(list) == 0 {
		for n, name := range names {
			if n != r.id && n != r.sess {
				list = append(list, name+"="+name)
			}
		}
	}
	for _, text := range list {
		name, from, ok := strings.Cut(text, "=")
		c := cell{json: strings.HasSuffix(name, ":")}
		if c.path = strings.Split(strings.TrimSuffix(name, ":"), "."); !ok || slices.Contains(c.path, "") {
			return cli.Usage("--arg must be NAME=COLUMN or NAME:=COLUMN, got %q", text)
		}
		if c.column, err = column("--arg "+text, from); err != nil {
			return err
		}
		r.cells = append(r.cells, c)
	}
	_, err = r.arguments(make([]string, r.width))
	return err
}

// job is what a row runs; rule reports what is wrong with it.
func (r *csvRows) job(record []string) (job dspex.BatchJob, rule string) {
	if len(record) != r.width {
		return job, fmt.Sprintf("it must have %d columns, got %d", r.width, len(record))
	}
	for n, text := range record {
		if !utf8.ValidString(text) {
			return job, fmt.Sprintf("column %d must be UTF-8", n+1)
		}
	}
	args, err := r.arguments(record)
	if err != nil {
		return job, err.Error()
	}
	job = dspex.BatchJob{Command: r.command, Args: args}
	if r.id >= 0 {
		job.ID = record[r.id]
	}
	if r.sess >= 0 {
		job.Session = record[r.sess]
	}
	return job, ""
}

func (r *csvRows) arguments(record []string) (dspex.Args, error) {
	args := dspex.Args{}
	if r.body != "" {
		var value any
		if err := cli.ReadJSON([]byte(r.body), &value); err != nil {
			return nil, cli.Usage("--json: %v", err)
		}
		given, isMap := value.(map[string]any)
		if !isMap {
			return nil, cli.Usage(`--json must be a JSON map such as {"program_id": "qa"}`)
		}
		args = given
	}
	for _, c := range r.cells {
		var value any = record[c.column]
		if c.json {
			if record[c.column] == "" {
				continue // none
			}
			if err := cli.ReadJSON([]byte(record[c.column]), &value); err != nil {
				return nil, fmt.Errorf("column %d must be JSON: %w", c.column+1, err)
			}
		}
		if !set(args, c.path, value) {
			return nil, cli.Usage("--arg %s is given twice, or is inside of a value", strings.Join(c.path, "."))
		}
	}
	return args, nil
}

// set puts a value at a path of maps, which it makes.
func set(in map[string]any, path []string, value any) bool {
	for _, name := range path[:len(path)-1] {
		if in[name] == nil {
			in[name] = map[string]any{}
		}
		next, isMap := in[name].(map[string]any)
		if !isMap {
			return false
		}
		in = next
	}
	last := path[len(path)-1]
	if _, there := in[last]; there {
		return false
	}
	in[last] = value
	return true
}

// places are where jobs stand in their file, and what was wrong there. A job that is not in it has the line after that of the one before.
type places struct {
	steps []struct{ index, line int }
	bad   map[int]string
}

// mostPlaces bounds the rules that are kept; more are not named either.
const mostPlaces = 10_000

func (p *places) add(index, line int, rule string) {
	if line > 0 && p.line(index) != line {
		p.steps = append(p.steps, struct{ index, line int }{index, line})
	}
	if rule != "" && len(p.bad) < mostPlaces {
		p.bad[index] = rule
	}
}

// line of a job, the first is 1.
func (p *places) line(index int) int {
	n, _ := slices.BinarySearchFunc(p.steps, index+1, func(s struct{ index, line int }, at int) int { return s.index - at })
	if n == 0 {
		return index + 1
	}
	return p.steps[n-1].line + index - p.steps[n-1].index
}

// bounded reads at most left bytes until left is set again: a quote that is never closed would take a whole file.
type bounded struct {
	in   io.Reader
	left int
}

func (b *bounded) Read(to []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("a row must have at most %d MiB: is a quote not closed?", mostLine>>20)
	}
	n, err := b.in.Read(to)
	b.left -= n
	return n, err
}

// withoutMark leaves out the mark that some programs put before UTF-8.
func withoutMark(in io.Reader) io.Reader {
	r := bufio.NewReader(in)
	if mark, err := r.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(len(mark))
	}
	return r
}

// mostLine bounds a line: no broker takes a job of that size.
const mostLine = 64 << 20
