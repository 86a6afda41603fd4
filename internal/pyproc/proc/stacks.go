package proc

import (
	"path"
	"regexp"
	"strings"
	"time"
)

// maxStack bounds the stacks in an error, in bytes.
const maxStack = 32 << 10

// How long a dump may take.
const (
	DumpTimeout = 2 * time.Second       // SIGUSR2 to giving up; the stacks take 0.5 ms, on a starved machine longer
	DumpQuiet   = 20 * time.Millisecond // silence after which the stacks count as complete
)

// RequestStacks has the process write its stacks, and returns those that it has written since the mark.
func (p *Process) RequestStacks(since int64) string {
	mark := p.Logs.Tail.Mark()
	p.Child.RequestStacks()
	p.awaitStacks(mark)
	return readStacks(p.Logs.Tail.Since(since))
}

// awaitStacks waits until a dump has begun and nothing more comes.
func (p *Process) awaitStacks(mark int64) {
	limit := time.NewTimer(DumpTimeout)
	defer limit.Stop()
	quiet := time.NewTimer(DumpTimeout)
	defer quiet.Stop()
	for {
		select {
		case <-p.Logs.Tail.Grew:
			if readStacks(p.Logs.Tail.Since(mark)) != "" {
				quiet.Reset(DumpQuiet)
			}
		case <-quiet.C:
			return
		case <-limit.C:
			return
		case <-p.Exited:
			return
		}
	}
}

// The lines of a dump as Python's faulthandler writes them. Nothing else of stderr gets into the error: a frame holds no
// values, what user code prints may.
var (
	threadLine = regexp.MustCompile(`^(?:Current thread 0x|Thread 0x|Task of call )[0-9a-f]+.*\(most recent call first\):$`)
	frameLine  = regexp.MustCompile(`^  File "([^"]*)", line (\d+|\?\?\?) in (.*)$`)
)

// readStacks picks the stacks out of what a worker wrote, in the form of the tracebacks in ERROR: base name, line, function.
func readStacks(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		var out string
		if threadLine.MatchString(line) {
			inside = true
			name, _, _ := strings.Cut(line, " (")
			out = name
		} else if m := frameLine.FindStringSubmatch(line); m != nil && inside {
			out = "  " + path.Base(m[1]) + ":" + m[2] + " in " + m[3]
		} else if strings.HasPrefix(line, "  <") && inside { // <no Python frame>
			out = line
		} else {
			continue
		}
		if b.Len()+len(out) >= maxStack {
			break
		}
		b.WriteString(out + "\n")
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// resting is where a thread of the worker runtime stands that has nothing to do.
var resting = regexp.MustCompile(`^(selectors\.py:\d+ in select|process\.py:\d+ in wait|threads\.py:\d+ in _serve)$`)

// Innermost is the first frame of a task, else of the interrupted thread, else of any other that does not rest.
func Innermost(stack string) string {
	found, best := "", 0
	rank := 0 // of the block whose first frame comes next; 0: not kept
	for line := range strings.Lines(stack) {
		at, isFrame := strings.CutPrefix(strings.TrimRight(line, "\n"), "  ")
		if !isFrame {
			rank = rankOf(line)
			continue
		}
		if rank > best && !strings.HasPrefix(at, "<") && !resting.MatchString(at) {
			found, best = at, rank
		}
		rank = 0
	}
	return found
}

func rankOf(title string) int {
	switch {
	case strings.HasPrefix(title, "Task"):
		return 3
	case strings.HasPrefix(title, "Current"):
		return 2
	}
	return 1
}
