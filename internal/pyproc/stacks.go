package pyproc

import (
	"errors"
	"path"
	"regexp"
	"strings"
	"time"
)

// maxStack bounds the stacks in an error, in bytes.
const maxStack = 32 << 10

// dump adds to a hang where the worker's threads and given-up tasks stand, if the worker can still say so. One that has not
// said HELLO may not know the signal, which would kill it.
func (w *worker) dump(stage State, cause error) {
	var hung *HungError
	if !errors.As(cause, &hung) || stage == Spawning || stage == Handshake || isClosed(w.exited) {
		return
	}
	w.pool.move(w.supervisor, Dumping, nil) // the cause follows when it is complete
	// What it said by itself since the first call was given up: where a task stands is in no thread's stack.
	hung.Stack = w.askStacks(w.cancelMark(w.logs.tail.mark()))
}

// askStacks has the process write its stacks, and returns those that it has written since the mark.
func (p *process) askStacks(since int64) string {
	mark := p.logs.tail.mark()
	p.child.askStacks()
	p.awaitStacks(mark)
	return readStacks(p.logs.tail.since(since))
}

// awaitStacks waits until a dump has begun and nothing more comes.
func (p *process) awaitStacks(mark int64) {
	limit := time.NewTimer(dumpTimeout)
	defer limit.Stop()
	quiet := time.NewTimer(dumpTimeout)
	defer quiet.Stop()
	for {
		select {
		case <-p.logs.tail.grew:
			if readStacks(p.logs.tail.since(mark)) != "" {
				quiet.Reset(dumpQuiet)
			}
		case <-quiet.C:
			return
		case <-limit.C:
			return
		case <-p.exited:
			return
		}
	}
}

// cancelMark is the place in stderr when the oldest call that was given up was, or otherwise.
func (w *worker) cancelMark(otherwise int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.abandoned {
			otherwise = min(otherwise, c.mark)
		}
	}
	return otherwise
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

// innermost is the first frame of a task, else of the interrupted thread, else of any other that does not rest.
func innermost(stack string) string {
	found, best := "", 0
	rank := 0 // of the block whose first frame comes next; 0: not wanted
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
