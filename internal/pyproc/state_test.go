package pyproc

import (
	"slices"
	"testing"
)

func TestEdgesOfTheStatesAreTheTable(t *testing.T) {
	alive := []State{Handshake, Warming, Spare, Idle, Busy, Cancelling, Draining, Stopping, Dumping, Killing}
	for _, s := range append(alive, Spawning) {
		if !s.leadsTo(Exited) {
			t.Errorf("%s: a process may die at any time, but no edge leads to exited", s)
		}
	}
	for _, s := range alive[:len(alive)-1] {
		if !s.leadsTo(Killing) {
			t.Errorf("%s: the host may kill at any time, but no edge leads to killing", s)
		}
	}
	for from := Empty; from <= Quarantined; from++ {
		if from.String() == "unknown" || from.String() == "" {
			t.Errorf("state %d has no name", from)
		}
		if from.leadsTo(from) {
			t.Errorf("%s leads to itself", from)
		}
		if got, want := from.leadsTo(Spawning), slices.Contains([]State{Empty, Backoff, Quarantined}, from); got != want {
			t.Errorf("%s to spawning: got %v, want %v: only a place without a process may start one", from, got, want)
		}
		if from.leadsTo(Idle) && !slices.Contains([]State{Warming, Spare, Busy, Cancelling}, from) {
			t.Errorf("%s leads to idle: a worker that was retired would take calls again", from)
		}
	}
	if State(200).String() != "unknown" {
		t.Error("expected unknown for a state that is none")
	}
}

func TestIllegalEdgeIsReported(t *testing.T) {
	p := New(Config{Size: 1})
	p.move(p.supervisors[0], Busy, nil)
	if p.illegal != 1 || p.events[0].Err == nil {
		t.Fatalf("got %d illegal edges, %v; want 1 with an error", p.illegal, p.events)
	}
}
