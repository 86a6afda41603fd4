package pyenv

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// progress shows a person what is going on: one redrawn line on a terminal, plain lines elsewhere.
type progress struct {
	w     io.Writer
	live  bool // a terminal that can redraw a line
	color bool
	width int

	mu      sync.Mutex // guards all below and writing to w
	current *step
	frame   int
	stop    chan struct{} // nil while nothing is redrawn
	drawn   sync.WaitGroup
}

const (
	redraw       = 100 * time.Millisecond
	defaultWidth = 80
	barWidth     = 20
)

func newProgress(w io.Writer, env environment) *progress {
	p := &progress{w: w, width: defaultWidth}
	if w == nil {
		p.w = io.Discard
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && env["TERM"] != "dumb" {
		p.live, p.color = true, env["NO_COLOR"] == ""
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// step is something that takes a while.
type step struct {
	p           *progress
	title       string
	began       time.Time
	done, total int
	detail      string
}

func (p *progress) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.w, text)
}

// start begins a step; argv, when given, is shown, so that it can be run by hand.
func (p *progress) start(title string, argv []string) *step {
	p.mu.Lock()
	defer p.mu.Unlock()
	if argv != nil {
		fmt.Fprintln(p.w, p.paint("2", "  $ "+shellLine(argv)))
	}
	s := &step{p: p, title: title, began: time.Now()}
	p.current = s
	if !p.live {
		fmt.Fprintf(p.w, "  %s ...\n", title)
		return s
	}
	p.draw()
	p.stop = make(chan struct{})
	stop := p.stop
	p.drawn.Go(func() { p.spin(stop) })
	return s
}

func (p *progress) spin(stop chan struct{}) {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.mu.Lock()
			p.frame++
			p.draw()
			p.mu.Unlock()
		}
	}
}

func (s *step) update(done, total int, detail string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.done, s.total, s.detail = done, total, detail
}

func (s *step) end(err error) {
	p := s.p
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.current = nil
	mark := p.paint("32", "ok")
	if err != nil {
		mark = p.paint("31", "failed")
	}
	fmt.Fprintf(p.w, "  %s: %s, %s\n", s.title, mark, elapsed(s.began))
}

// close ends the redrawing and waits for it.
func (p *progress) close() {
	p.mu.Lock()
	stop := p.stop
	p.stop = nil
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		p.drawn.Wait()
	}
}

// clear and draw are called with mu held.
func (p *progress) clear() {
	if p.live && p.current != nil {
		fmt.Fprint(p.w, "\r\x1b[2K")
	}
}

func (p *progress) draw() {
	s := p.current
	if s == nil {
		return
	}
	line := fmt.Sprintf("  %s %s", [...]string{"|", "/", "-", "\\"}[p.frame%4], s.title)
	if s.total > 0 {
		line += fmt.Sprintf(" [%s] %d/%d %s", bar(s.done, s.total), s.done, s.total, s.detail)
	}
	line += ", " + elapsed(s.began)
	// A line that wraps cannot be redrawn.
	for utf8.RuneCountInString(line) >= p.width {
		_, size := utf8.DecodeLastRuneInString(line)
		line = line[:len(line)-size]
	}
	fmt.Fprint(p.w, "\r\x1b[2K"+line)
}

func bar(done, total int) string {
	full := barWidth * min(done, total) / total
	return strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
}

func elapsed(since time.Time) string {
	return fmt.Sprintf("%.1f s", time.Since(since).Seconds())
}

func (p *progress) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func shellLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		if quoted[i] = arg; arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
