package local

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/devserver"
)

// attemptsASecond is how many attempts have a line of their own; more of them than that nobody reads.
const attemptsASecond = 20

// attemptLog shows each attempt that is over on a line, and what the user's code raised.
type attemptLog struct {
	app   *cli.App
	quiet bool
	now   func() time.Time

	mu     sync.Mutex
	second time.Time
	shown  int // in this second
	unseen int // since the last line
}

func (l *attemptLog) ended(e devserver.Ended) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if s := now.Truncate(time.Second); s != l.second {
		l.second, l.shown = s, 0
	}
	raised := raised(e)
	if l.quiet || l.shown >= attemptsASecond {
		l.unseen++
	} else {
		l.shown++
		raised = l.line(now, e) + raised
	}
	fmt.Fprint(l.app.Err, raised)
}

func (l *attemptLog) line(now time.Time, e devserver.Ended) string {
	out := l.app.Err
	text := ""
	if l.unseen > 0 && !l.quiet {
		text = l.app.Paint(out, cli.Dim, fmt.Sprintf("%d more attempts", l.unseen)) + "\n"
		l.unseen = 0
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
