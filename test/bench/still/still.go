//go:build linux

// Package still describes a deployment in which nothing goes on any more.
package still

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/test/bench/procs"
)

// Bounds of a description.
const (
	within  = 10 * time.Second
	watched = time.Second // in which the processor time of each process is counted
)

// Process is one to describe.
type Process struct {
	Name string
	PID  int
}

// Describe writes what the broker holds, and what each process and its descendants are at.
func Describe(ctx context.Context, w io.Writer, url string, all []Process) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := broker(ctx, w, url); err != nil {
		fmt.Fprintf(w, "the broker: %v\n", err)
	}
	before := map[int]time.Duration{}
	for _, p := range all {
		for _, pid := range procs.Family(p.PID) {
			before[pid] = procs.CPUTime([]int{pid})
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(watched):
	}
	for _, p := range all {
		for _, pid := range procs.Family(p.PID) {
			fmt.Fprintf(w, "%s, process %d: state %s, %v of %v\n", p.Name, pid, state(pid), procs.CPUTime([]int{pid})-before[pid], watched)
		}
	}
}

// state is the letter that the kernel has for it.
func state(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "ended"
	}
	_, rest, _ := strings.Cut(string(text), "State:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// broker writes the state of streams, and of the consumers that are not at rest.
func broker(ctx context.Context, w io.Writer, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		s := info.State
		fmt.Fprintf(w, "stream %s: %d messages, %d bytes, sequences %d to %d, %d consumers\n", info.Config.Name, s.Msgs, s.Bytes, s.FirstSeq, s.LastSeq, s.Consumers)
		if err := consumers(ctx, w, js, info.Config.Name); err != nil {
			return err
		}
	}
	return streams.Err()
}

func consumers(ctx context.Context, w io.Writer, js jetstream.JetStream, name string) error {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	all := s.ListConsumers(ctx)
	for c := range all.Info() {
		if c.NumPending > 0 || c.NumAckPending > 0 || c.NumWaiting == 0 && !c.PushBound {
			fmt.Fprintf(w, "consumer %s of %s: %d not delivered, %d not acknowledged, %d redelivered, %d pulls wait, delivered %d (stream %d), acknowledged %d (stream %d)\n",
				c.Name, name, c.NumPending, c.NumAckPending, c.NumRedelivered, c.NumWaiting, c.Delivered.Consumer, c.Delivered.Stream, c.AckFloor.Consumer, c.AckFloor.Stream)
		}
	}
	return all.Err()
}
