package pyproc

import (
	"slices"
	"testing"
	"time"
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

func TestDelayDoublesUpToItsMostAndIsSetBackByHealth(t *testing.T) {
	r := restarts{rules: defaultRules}
	now := time.Unix(0, 0)
	crash := ending{ready: true, lived: time.Second}
	for i, ms := range []int{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		if got, q := r.after(now, crash, 0.5); got != time.Duration(ms)*time.Millisecond || q {
			t.Fatalf("crash %d: got %v, %v; want %v ms", i, got, q, ms)
		}
	}
	for range 100 { // the shift must not overflow
		if got, _ := r.after(now, crash, 0.5); got != 30*time.Second {
			t.Fatalf("got %v, want 30s", got)
		}
	}
	if got, _ := r.after(now, ending{ready: true, lived: time.Minute}, 0.5); got != 0 {
		t.Fatalf("after a healthy minute: got %v, want none", got)
	}
	if got, _ := r.after(now, crash, 0.5); got != 100*time.Millisecond {
		t.Fatalf("second death: got %v, want 100ms", got)
	}
	if got, _ := r.after(now, crash, 0); got != 160*time.Millisecond {
		t.Fatalf("least chance: got %v, want 160ms", got)
	}
	if got, _ := (&restarts{rules: defaultRules}).after(now, ending{}, 0.5); got != 100*time.Millisecond {
		t.Fatalf("first start that fails: got %v, want 100ms", got)
	}
	if got, _ := r.after(now, crash, 0.999999); got < 479*time.Millisecond || got > 480*time.Millisecond {
		t.Fatalf("most chance: got %v, want just under 480ms", got)
	}
}

func TestQuarantineFollowsFiveFailedStartsInAMinute(t *testing.T) {
	now := time.Unix(0, 0)
	step := func(r *restarts, end ending, after time.Duration) bool {
		now = now.Add(after)
		_, q := r.after(now, end, 0.5)
		return q
	}
	r := restarts{rules: defaultRules}
	for i := range 20 { // four in any minute
		if step(&r, ending{}, 16*time.Second) {
			t.Fatalf("failure %d: quarantined by slow failures", i)
		}
	}
	r = restarts{rules: defaultRules}
	for i := range 5 {
		if got, want := step(&r, ending{}, time.Second), i == 4; got != want {
			t.Fatalf("failure %d: got %v, want %v", i, got, want)
		}
	}
	if !step(&r, ending{}, 2*time.Minute) {
		t.Fatal("the first start after a quarantine failed: expected quarantine again")
	}
	if step(&r, ending{ready: true}, time.Second) {
		t.Fatal("a worker that was ready is no failed start")
	}
	if step(&r, ending{}, 2*time.Minute) {
		t.Fatal("a success ends the probing: expected a fresh count")
	}
	if !step(&r, ending{hopeless: true}, 2*time.Minute) {
		t.Fatal("a wrong version cannot be waited away in milliseconds: expected quarantine at once")
	}
}
