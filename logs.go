package dspex

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// LogLine is a line of the log of a process: contract/logs.md.
type LogLine struct {
	At      time.Time // by the clock of the process
	Level   string    // info, warn or error
	Process string    // dispatcher, worker-host, gateway or dev
	Name    string    // of the process
	Message string
	Fields  []LogField      // in their order
	Lost    int             // lines before it that came faster than they were taken
	Raw     json.RawMessage // the whole line
}

// LogField is a field of a line. A value is a string, a number (json.Number), a bool, a map, a list or nil.
type LogField struct {
	Key   string
	Value any
}

// Field returns a field as text, "" if the line has none.
func (l LogLine) Field(key string) string {
	for _, f := range l.Fields {
		if text, ok := f.Value.(string); ok && f.Key == key {
			return text
		}
	}
	return ""
}

// LogFilter chooses lines. Its zero value has none: set Tail or Follow.
type LogFilter struct {
	Tail    int    // the last lines of all processes together, those that the filter chooses
	Follow  bool   // and the new ones, until the context ends, or the connection permanently, which is an error
	Level   string // warn: no lines of level info; error: those alone
	Process string // "": of each
	Name    string // of a process; "": of each
	Session string // lines about this session
	Job     string // lines about this job
	Text    string // lines that have this text somewhere
}

func (f LogFilter) has(l LogLine) bool {
	return (f.Process == "" || l.Process == f.Process) && (f.Name == "" || l.Name == f.Name) &&
		(f.Session == "" || l.Field("session") == f.Session) && (f.Job == "" || l.Field("job") == f.Job) &&
		slices.Index(logLevels, l.Level) >= slices.Index(logLevels, cmp.Or(f.Level, "info")) &&
		(f.Text == "" || bytes.Contains(bytes.ToLower(l.Raw), []byte(strings.ToLower(f.Text))))
}

var logLevels = []string{"info", "warn", "error"}

const (
	logsHeld   = 4096                   // lines that wait for a caller that is slow
	logsEach   = 200                    // lines that a process keeps of each level
	logsQuiet  = 400 * time.Millisecond // without another answer after which there is none to come
	logsWait   = 3 * time.Second        // for the first answer
	followEach = 3 * time.Second        // a process sends its lines for 10 s after a request
)

// Logs are the last lines of the logs of all live processes in the order of their times and, with Follow, the new ones. Processes keep at
// least 200 lines of each level, and send lines only while somebody follows. It needs the permissions of an operator.
func (a *Admin) Logs(ctx context.Context, f LogFilter) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		if !slices.Contains(logLevels, cmp.Or(f.Level, "info")) {
			yield(LogLine{}, invalid("bad_level", "level", "info, warn or error", "the level must be info, warn or error, got %q", f.Level))
			return
		}
		var live *follower
		if f.Follow {
			var err error
			if live, err = a.follow(f.Level); err != nil {
				yield(LogLine{}, transport(ctx, err, JobRef{}))
				return
			}
			defer live.stop()
		}
		recent, err := a.recentLogs(ctx, f)
		if err != nil && !f.Follow {
			yield(LogLine{}, err)
			return
		}
		for _, l := range recent {
			if !yield(l, nil) {
				return
			}
		}
		if f.Follow {
			live.run(ctx, f, recent, yield)
		}
	}
}

// recentLogs reads the last lines of every process.
func (a *Admin) recentLogs(ctx context.Context, f LogFilter) ([]LogLine, error) {
	inbox := a.c.nc.NewInbox()
	sub, err := a.c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, transport(ctx, err, JobRef{})
	}
	defer func() { _ = sub.Unsubscribe() }()
	tail := f.Tail
	if f.narrow() {
		tail = len(logLevels) * logsEach // what it chooses may be anywhere
	}
	if err := a.c.nc.PublishRequest(a.c.prefix+contract.SubjectLogs, inbox, askLogs(f, tail)); err != nil {
		return nil, transport(ctx, err, JobRef{})
	}
	var lines []LogLine
	for wait := logsWait; ; wait = logsQuiet {
		within, cancel := context.WithTimeout(ctx, wait)
		m, err := sub.NextMsgWithContext(within)
		cancel()
		if err != nil {
			if ctx.Err() != nil || wait == logsWait {
				return nil, withoutLogs(transport(ctx, err, JobRef{}))
			}
			break
		}
		some, err := readLogs(m.Data)
		if err != nil {
			return nil, err
		}
		lines = append(lines, some...)
	}
	lines = slices.DeleteFunc(lines, func(l LogLine) bool { return !f.has(l) })
	slices.SortStableFunc(lines, func(a, b LogLine) int { return a.At.Compare(b.At) })
	return lines[max(0, len(lines)-f.Tail):], nil
}

// withoutLogs words what it means if no process answers.
func withoutLogs(e *Error) *Error {
	if e.Code == CodePoolUnavailable {
		e.Message, e.Hint = "no process shows its log: the broker answers, but no process of dspex, or only those of an earlier release", "start a dispatcher and a worker-host of this release, or `dspex dev`"
	}
	return e
}

// narrow reports whether the filter chooses among the lines of a level.
func (f LogFilter) narrow() bool { return f.Session+f.Job+f.Text != "" }

func askLogs(f LogFilter, tail int) []byte {
	body, err := json.Marshal(map[string]any{"tail": tail, "level": cmp.Or(f.Level, "info"), "follow": f.Follow})
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return body
}

func readLogs(body []byte) ([]LogLine, error) {
	var w struct {
		Lines []json.RawMessage
		Error string
	}
	if err := json.Unmarshal(body, &w); err != nil || w.Error != "" {
		return nil, badReply("the answer about a log must have lines, got %.200q", body)
	}
	lines := make([]LogLine, len(w.Lines))
	for i, raw := range w.Lines {
		var err error
		if lines[i], err = readLogLine(raw); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func readLogLine(raw []byte) (LogLine, error) {
	var w struct {
		At                            time.Time
		Level, Process, Name, Message string
		Fields                        json.RawMessage
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return LogLine{}, badReply("a line of a log is not the expected JSON: %v", err)
	}
	l := LogLine{At: w.At, Level: w.Level, Process: w.Process, Name: w.Name, Message: w.Message, Raw: raw}
	if len(w.Fields) == 0 {
		return l, nil
	}
	d := json.NewDecoder(bytes.NewReader(w.Fields))
	d.UseNumber()
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return l, badReply("the fields of a line must be an object, got %.200q", w.Fields)
	}
	for d.More() {
		key, err := d.Token()
		var f LogField
		if err == nil {
			f.Key, _ = key.(string)
			err = d.Decode(&f.Value)
		}
		if err != nil {
			return l, badReply("a line of a log is not the expected JSON: %v", err)
		}
		l.Fields = append(l.Fields, f)
	}
	return l, nil
}

// follower receives new lines.
type follower struct {
	nc      *nats.Conn
	request string           // subject
	closed  chan nats.Status // permanently
	come    chan *nats.Msg
	subs    []*nats.Subscription
}

func (a *Admin) follow(level string) (*follower, error) {
	l := &follower{nc: a.c.nc, request: a.c.prefix + contract.SubjectLogs, closed: a.c.nc.StatusChanged(nats.CLOSED), come: make(chan *nats.Msg, logsHeld)}
	for _, name := range logLevels[slices.Index(logLevels, cmp.Or(level, "info")):] {
		sub, err := l.nc.ChanSubscribe(contract.SubjectLog+"*."+name, l.come)
		if err != nil {
			l.stop()
			return nil, err
		}
		l.subs = append(l.subs, sub)
	}
	return l, nil
}

func (l *follower) stop() {
	l.nc.RemoveStatusListener(l.closed)
	for _, sub := range l.subs {
		_ = sub.Unsubscribe()
	}
}

// run yields new lines, without those that were among the last ones.
func (l *follower) run(ctx context.Context, f LogFilter, recent []LogLine, yield func(LogLine, error) bool) {
	seen := map[string]bool{}
	for _, r := range recent {
		seen[string(r.Raw)] = true
	}
	again := time.NewTicker(followEach)
	defer again.Stop()
	dropped := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.closed:
			yield(LogLine{}, transport(ctx, nats.ErrConnectionClosed, JobRef{}))
			return
		case <-again.C:
			_ = l.nc.Publish(l.request, askLogs(f, 0)) // lost while the broker is away: the next one is not
		case m := <-l.come:
			line, err := readLogLine(m.Data)
			if err == nil && (!f.has(line) || seen[string(m.Data)]) {
				continue
			}
			all := lost(l.subs)
			line.Lost, dropped = all-dropped, all
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// lost is how many messages subscriptions have dropped.
func lost(subs []*nats.Subscription) (all int) {
	for _, sub := range subs {
		if n, err := sub.Dropped(); err == nil {
			all += n
		}
	}
	return all
}
