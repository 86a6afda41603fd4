//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/procs"
)

// figure is one number of the report.
type figure struct {
	Part   string    `json:"part"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit,omitempty"` // "" is a ratio
	Median float64   `json:"median"`
	Values []float64 `json:"values"`
	Asked  string    `json:"asked,omitempty"` // such as "<= 1.2"
	Met    *bool     `json:"met,omitempty"`
}

// report prints tables as they come and keeps the figures.
type report struct {
	out     *tabwriter.Writer
	began   time.Time
	figures []figure
	other   []float64 // shares of the machine that others used
}

func newReport(o *options) *report {
	r := &report{out: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0), began: time.Now()}
	sync := "default"
	if o.syncAlways {
		sync = "always"
	}
	fmt.Printf("%d processors, %s, rounds %d, slice %v, broker sync %s\n", runtime.NumCPU(), runtime.Version(), o.rounds, o.slice, sync)
	return r
}

// head begins a table.
func (r *report) head(title string, columns ...string) {
	fmt.Printf("\n%s\n", title)
	fmt.Fprintln(r.out, strings.Join(columns, "\t"))
}

func (r *report) line(cells ...string) { fmt.Fprintln(r.out, strings.Join(cells, "\t")) }

// tail ends a table.
func (r *report) tail() { _ = r.out.Flush() }

// keep notes a figure and returns its median.
func (r *report) keep(part, name, unit string, values []float64) float64 {
	m := median(values)
	r.figures = append(r.figures, figure{Part: part, Name: name, Unit: unit, Median: m, Values: values})
	return m
}

// judge notes a figure that has a bound, and returns the cells: bound, median, spread, verdict.
func (r *report) judge(part, name, unit, relation string, bound float64, values []float64) []string {
	m := median(values)
	met := m >= bound
	if relation == "<=" {
		met = m <= bound
	}
	verdict := "MISSED"
	if met {
		verdict = "met"
	}
	asked := fmt.Sprintf("%s %g", relation, bound)
	r.figures = append(r.figures, figure{Part: part, Name: name, Unit: unit, Median: m, Values: values, Asked: asked, Met: &met})
	return []string{asked, number(m), spread(values), verdict}
}

// end prints the verdicts together and writes the file.
func (r *report) end(path string) error {
	missed := 0
	r.head("What is asked", "part", "figure", "asked", "median", "spread", "")
	for _, f := range r.figures {
		if f.Met == nil {
			continue
		}
		verdict := "met"
		if !*f.Met {
			verdict = "MISSED"
			missed++
		}
		r.line(f.Part, f.Name, f.Asked+" "+f.Unit, number(f.Median), spread(f.Values), verdict)
	}
	r.tail()
	fmt.Printf("\n%d missed, %.0f s", missed, time.Since(r.began).Seconds())
	if other := median(r.other); other > 0.1 {
		fmt.Printf("; other processes used %.0f %% of the machine: rates and idle shares are theirs, too; run again on a quiet one", 100*other)
	}
	fmt.Println()
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{
		"at": r.began.UTC().Format(time.RFC3339), "processors": runtime.NumCPU(), "go": runtime.Version(),
		"others_share": median(r.other), "figures": r.figures,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// spread is the range of the values.
func spread(v []float64) string {
	if len(v) < 2 {
		return ""
	}
	return number(slices.Min(v)) + " - " + number(slices.Max(v))
}

// number shows three digits or more.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// column collects one figure of many samples.
func column(samples []sample, f func(sample) float64) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, f(s))
	}
	return out
}

// replies is one subscription for the answers to all lanes.
type replies struct {
	prefix string
	wait   []func(*nats.Msg)
}

// maxLanes bounds the lanes that may wait for a reply.
const maxLanes = 4096

// newReplies subscribes. Where calls are answered, an empty message is no reply: it follows the last reply to another account. A confirmed
// acknowledgement is nothing but an empty message.
func newReplies(nc *nats.Conn, empty bool) (*replies, error) {
	r := &replies{prefix: nc.NewInbox() + ".", wait: make([]func(*nats.Msg), maxLanes)}
	_, err := nc.Subscribe(r.prefix+"*", func(m *nats.Msg) {
		if !empty && len(m.Data) == 0 && len(m.Header) == 0 {
			return
		}
		lane := 0
		for _, c := range m.Subject[len(r.prefix):] {
			lane = lane*10 + int(c-'0')
		}
		if f := r.wait[lane]; f != nil {
			r.wait[lane] = nil
			f(m)
		}
	})
	return r, err
}

// failure reports what is wrong with a reply.
func failure(m *nats.Msg) error {
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		return errors.New(text)
	}
	if status := m.Header.Get("Status"); status != "" {
		return errors.New("status " + status)
	}
	return nil
}

// stored are the values of one job of agent.CallBody as a host writes them: the parts are measured with the same bytes.
type stored struct{ reply, head, record, result []byte }

func samples() stored {
	value := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "text"), agent.Argument(60))
	reply := (&jobs.Reply{Job: "q123456", Attempt: 1, Session: agent.Session(1), Host: "bench", Worker: "bench/1", State: jobs.None,
		Engine: "stub", Result: value}).Append(nil)
	now := time.Now()
	inbox := "_INBOX.0123456789abcdefghijkl.12"
	last := &jobs.Outcome{Job: "q123456", Sequence: 123456, Epoch: 70, Attempt: 1, Kind: jobs.Succeeded, Mode: jobs.ModeCall,
		ReplyTo: inbox, Type: jobs.JSON, Body: reply}
	record := &jobs.Record{Stream: now.UnixNano(), LastSequence: 123456, Created: now, Updated: now, Jobs: 12, Host: "bench",
		Worker: "bench/1", Last: last}
	result := &jobs.Result{Session: agent.Session(1), Job: "q123456", Sequence: 123456, Attempt: 1, Kind: jobs.Succeeded, Body: reply, Stored: now}
	head := &jobs.AttemptRecord{Stream: now.UnixNano(), Epoch: 70, Sequence: 123456, Attempt: 1}
	return stored{reply, head.Append(nil), record.Append(nil), result.Append(nil)}
}

// sample is one measurement with what it cost.
type sample struct {
	answer
	cpu   float64            // processor microseconds for one, over all processes
	by    map[string]float64 // the same by process; python are all descendants
	idle  float64            // share of the machine that nobody used
	other float64            // share that processes outside of the measurement used
}

// meter counts the processor time of processes and their descendants, from its making on.
type meter struct {
	pids       map[string][]int
	used       map[int]time.Duration
	busy, idle time.Duration
}

func newMeter(roots ...*process) *meter {
	m := &meter{pids: map[string][]int{}, used: map[int]time.Duration{}}
	for _, p := range roots {
		pids := procs.Family(p.cmd.Process.Pid)
		m.pids[p.role] = append(m.pids[p.role], pids[0])
		m.pids["python"] = append(m.pids["python"], pids[1:]...)
	}
	for _, pids := range m.pids {
		for _, pid := range pids {
			m.used[pid] = procs.CPUTime([]int{pid})
		}
	}
	m.busy, m.idle = procs.MachineTime()
	return m
}

// read makes a sample of what happened since.
func (m *meter) read(a answer) sample {
	s := sample{answer: a, by: map[string]float64{}}
	var all time.Duration
	for name, pids := range m.pids {
		used := time.Duration(0)
		for _, pid := range pids {
			used += max(0, procs.CPUTime([]int{pid})-m.used[pid]) // an overflow worker may have ended
		}
		all += used
		s.by[name] = float64(used.Microseconds()) / float64(a.Count)
		s.cpu += s.by[name]
	}
	busy, idle := procs.MachineTime()
	busy, idle = busy-m.busy, idle-m.idle
	if whole := float64(busy + idle); whole > 0 {
		s.idle = float64(idle) / whole
		s.other = max(0, float64(busy-all)/whole)
	}
	return s
}

// measure has a process carry out an order and counts what the given processes and their descendants use meanwhile.
func measure(ctx context.Context, worker *process, o order, all ...*process) (sample, error) {
	if !slices.Contains(all, worker) {
		all = append(all, worker)
	}
	m := newMeter(all...)
	a, err := worker.ask(ctx, o)
	if err != nil {
		return sample{}, err
	}
	if a.Count == 0 {
		return sample{}, fmt.Errorf("%s: nothing was done", o.Do)
	}
	return m.read(a), nil
}
