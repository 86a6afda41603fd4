package local

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/devserver"
)

// attemptsASecond is how many attempts have a line of their own; more than that are too many to read.
const attemptsASecond = 20

// mostLines is how many texts wait for the terminal: what is beyond them is counted, not shown.
const mostLines = 256

// attemptLog shows each attempt that is over on a line, and what the user's code raised. A terminal that stands still holds up
// nobody.
type attemptLog struct {
	app     *cli.App
	quiet   bool
	now     func() time.Time
	texts   chan string
	written sync.WaitGroup

	mu     sync.Mutex
	over   bool
	second time.Time
	shown  int // in this second
	unseen int // since the last line
}

// newAttemptLog makes a log that writes until close.
func newAttemptLog(a *cli.App, quiet bool, now func() time.Time) *attemptLog {
	l := &attemptLog{app: a, quiet: quiet, now: now, texts: make(chan string, mostLines)}
	l.written.Go(func() {
		for text := range l.texts {
			fmt.Fprint(a.Err, text)
		}
	})
	return l
}

// close writes what is there. Attempts that end later are not shown.
func (l *attemptLog) close() {
	l.mu.Lock()
	if !l.over {
		l.over = true
		close(l.texts)
	}
	l.mu.Unlock()
	l.written.Wait()
}

func (l *attemptLog) ended(e devserver.Ended) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, unseen := l.now(), l.unseen
	if s := now.Truncate(time.Second); s != l.second {
		l.second, l.shown = s, 0
	}
	text, shows := raised(e), !l.quiet && l.shown < attemptsASecond
	if shows {
		text = l.line(now, e) + text
		unseen = 0
	}
	if l.over || text == "" {
		l.unseen++
		return
	}
	select {
	case l.texts <- text:
		l.unseen = unseen
		if shows {
			l.shown++
		} else {
			l.unseen++
		}
	default:
		l.unseen++
	}
}

func (l *attemptLog) line(now time.Time, e devserver.Ended) string {
	out := l.app.Err
	text := ""
	if l.unseen > 0 {
		text = l.app.Paint(out, cli.Dim, fmt.Sprintf("%d more attempts", l.unseen)) + "\n"
	}
	verdict, why := l.app.Paint(out, cli.Green, "ok    "), ""
	if e.Error != nil {
		verdict, why = l.app.Paint(out, cli.Red, "failed"), "  "+cli.Word(string(e.Error.Category)+" "+e.Error.Code)
	}
	what := cli.Word(e.Command)
	if e.Program != "" {
		what += " " + cli.Word(e.Program)
	}
	whose := "anonymous"
	if e.Session != "" {
		whose = "session " + cli.Word(e.Session)
	}
	rest := fmt.Sprintf("%s, job %s, attempt %d, %s, %s", whose, cli.Word(e.Job), e.Attempt, cli.Word(e.Worker), cli.Ms(e.Ran))
	return text + fmt.Sprintf("%s %s %-16s %s%s\n", l.app.Paint(out, cli.Dim, now.Format(time.TimeOnly)), verdict, what, l.app.Paint(out, cli.Dim, rest), why)
}

// raised is what the user's code raised in an attempt, "" if it did not: one text, so that those of several jobs do not mix.
func raised(e devserver.Ended) string {
	if e.Error == nil || e.Error.PythonType == "" {
		return ""
	}
	what := e.Command
	if e.Program != "" {
		what += " " + cli.Word(e.Program)
	}
	where := fmt.Sprintf("job %s, attempt %d", cli.Word(e.Job), e.Attempt)
	if e.Session != "" {
		where = "session " + cli.Word(e.Session) + ", " + where
	}
	lines := []string{fmt.Sprintf("%s raised (%s)", what, where), "  " + indented(e.Error.Message)}
	if e.Error.Traceback != "" {
		lines = append(lines, "  "+indented(e.Error.Traceback))
	}
	return strings.Join(lines, "\n") + "\n"
}

func indented(text string) string {
	return strings.ReplaceAll(strings.TrimRight(cli.Clean(text), "\n"), "\n", "\n  ")
}
