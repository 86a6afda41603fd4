package dashboard

import (
	"context"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

// Bounds of the page of logs.
const (
	mostLines = 100              // of all processes together, the latest
	logsFor   = 30 * time.Second // lines are followed on without a viewer
	mostText  = 2 << 10          // bytes of one line
	mostTexts = 48 << 10         // bytes of all lines of a page, as HTML
)

// logTail follows the logs of all processes while somebody looks at them.
type logTail struct {
	mu     sync.Mutex
	lines  []dspex.LogLine // the oldest first
	wanted time.Time
	stop   context.CancelFunc // nil: nobody follows
	failed time.Time
	why    error
}

// want has the lines followed for a while.
func (t *logTail) want() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted = time.Now()
}

// turn begins to follow, or ends it. following is what to do then, nil if there is nothing to do.
func (t *logTail) turn(ctx context.Context, c *dspex.Client) (following func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := time.Since(t.wanted) < logsFor
	if t.stop != nil {
		if !wanted {
			t.stop()
		}
		return nil
	}
	if !wanted || time.Since(t.failed) < deniedFor {
		return nil
	}
	ctx, t.stop = context.WithCancel(ctx)
	return func() { t.follow(ctx, c) }
}

func (t *logTail) follow(ctx context.Context, c *dspex.Client) {
	lines, err := readLines(ctx, c, dspex.LogFilter{}) // a refusal is seen here
	t.mu.Lock()
	t.lines, t.why = lines, err
	if err != nil {
		t.failed = time.Now()
	}
	t.mu.Unlock()
	if err == nil {
		lines = nil
		for l, err := range c.Admin().Logs(ctx, dspex.LogFilter{Follow: true, Tail: mostLines}) {
			if err != nil {
				break
			}
			lines = append(lines, l)
			lines = lines[max(0, len(lines)-mostLines):]
			t.mu.Lock()
			t.lines = slices.Clone(lines)
			t.mu.Unlock()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop()
	t.stop = nil
}

// readLines reads the last lines that a filter chooses, the oldest first.
func readLines(ctx context.Context, c *dspex.Client, f dspex.LogFilter) (all []dspex.LogLine, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	f.Tail = mostLines
	for l, err := range c.Admin().Logs(ctx, f) {
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// logRow is a line as it is shown.
type logRow struct {
	At                   time.Time
	Level, Process, Text string
	Session, Job         string
}

// logRows are lines, the newest first.
type logRows struct {
	Rows []logRow
	Err  string
}

func rowsOf(lines []dspex.LogLine, err error) (v logRows) {
	if err != nil {
		v.Err = "the logs cannot be read: " + err.Error()
	}
	room := mostTexts
	for _, l := range slices.Backward(lines) {
		text := insight.LineText(l)
		if len(text) > mostText {
			text = strings.ToValidUTF8(text[:mostText], "") + "…"
		}
		if room -= len(template.HTMLEscapeString(text)); room < 0 {
			break
		}
		row := logRow{l.At, l.Level, insight.ProcessOf(l), text, l.Field("session"), l.Field("job")}
		if strings.Contains(row.Session, "/") { // of another tenant
			row.Session, row.Job = "", ""
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

// newest are the lines that are followed.
func (t *logTail) newest() logRows {
	t.want()
	t.mu.Lock()
	defer t.mu.Unlock()
	return rowsOf(t.lines, t.why)
}

func (s *Server) logsPage(ctx context.Context, r *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := dspex.LogFilter{Level: q.Get("level"), Name: q.Get("name"), Session: q.Get("session"), Text: q.Get("text")}
	if f.Level == "info" {
		f.Level = "" // all
	}
	live := f == dspex.LogFilter{}
	rows := logRows{}
	if live {
		rows = w.logs.newest()
	}
	if len(rows.Rows) == 0 && rows.Err == "" {
		rows = rowsOf(readLines(ctx, sc.own, f))
	}
	return struct {
		Filter dspex.LogFilter
		Levels []string
		Lines  logRows
		Live   bool
	}{f, []string{"info", "warn", "error"}, rows, live}, nil
}
