package calls

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// read reads a whole CSV file: the rows, "" for bad ones, and where they stand.
func read(t *testing.T, s sheet, text string) (rows []string, at *places, err error) {
	t.Helper()
	at = &places{bad: map[int]string{}}
	if s.delimiter == "" {
		s.delimiter = ","
	}
	for job, bad := range s.jobsOf(strings.NewReader(text), at) {
		if bad != nil {
			return rows, at, bad
		}
		text, _ := job.Args["q"].(string)
		rows = append(rows, text)
	}
	return rows, at, nil
}

func TestRowsAreJobsAndKnowTheirLines(t *testing.T) {
	text := "\xef\xbb\xbfq;n\r\none;1\r\n\r\n\"two\nlines\";2\r\nthree;3;4\r\nf\xffour;4\r\nfive;5\r\n"
	rows, at, err := read(t, sheet{delimiter: ";", args: []string{"q=q"}}, text)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two\nlines", "", "", "five"}; !slices.Equal(rows, want) {
		t.Errorf("the rows are %q, want %q", rows, want)
	}
	for index, want := range []int{2, 4, 6, 7, 8} {
		if got := at.line(index); got != want {
			t.Errorf("row %d is in line %d, want %d", index, got, want)
		}
	}
	if at.bad[2] != "it must have 2 columns, got 3" {
		t.Errorf("the rule of row 2 is %q", at.bad[2])
	}
	if at.bad[3] != "column 1 must be UTF-8" {
		t.Errorf("the rule of row 3 is %q", at.bad[3])
	}
}

func TestAQuoteThatIsNeverClosedTakesNoWholeFile(t *testing.T) {
	b := &bounded{in: strings.NewReader(strings.Repeat("x", 100)), left: 10}
	if n, err := io.Copy(io.Discard, b); err == nil || n > 100 || !strings.Contains(err.Error(), "is a quote not closed?") {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

func TestColumnsThatDoNotFitAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sheet sheet
		text  string
		want  string
	}{
		"no such column":         {sheet{args: []string{"q=x"}}, "q,n\n", `no column "x"`},
		"two of that name":       {sheet{args: []string{"q=q"}}, "q,q\n", `two columns "q"`},
		"an argument twice":      {sheet{args: []string{"q=q", "q=n"}}, "q,n\n", "given twice"},
		"inside of a value":      {sheet{args: []string{"q=q", "q.more=n"}}, "q,n\n", "inside of a value"},
		"no map":                 {sheet{body: "[]"}, "q,n\n", "must be a JSON map"},
		"no such id":             {sheet{id: "x"}, "q,n\n", "--id-column"},
		"an empty file":          {sheet{}, "", "names of the columns"},
		"an argument of no name": {sheet{args: []string{"a..b=q"}}, "q,n\n", "NAME=COLUMN"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := read(t, c.sheet, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}
