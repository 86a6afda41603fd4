package pace

import (
	"testing"
	"time"
)

func TestDelayDoublesUpToItsMostAndIsSetBackByHealth(t *testing.T) {
	r := Restarts{Rules: DefaultRules}
	now := time.Unix(0, 0)
	crash := Ending{Ready: true, Lived: time.Second}
	for i, ms := range []int{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		if got, q := r.After(now, crash, 0.5); got != time.Duration(ms)*time.Millisecond || q {
			t.Fatalf("crash %d: got %v, %v; want %v ms", i, got, q, ms)
		}
	}
	for range 100 { // the shift must not overflow
		if got, _ := r.After(now, crash, 0.5); got != 30*time.Second {
			t.Fatalf("got %v, want 30s", got)
		}
	}
	if got, _ := r.After(now, Ending{Ready: true, Lived: time.Minute}, 0.5); got != 0 {
		t.Fatalf("after a healthy minute: got %v, want none", got)
	}
	if got, _ := r.After(now, crash, 0.5); got != 100*time.Millisecond {
		t.Fatalf("second death: got %v, want 100ms", got)
	}
	if got, _ := r.After(now, crash, 0); got != 160*time.Millisecond {
		t.Fatalf("least chance: got %v, want 160ms", got)
	}
	if got, _ := (&Restarts{Rules: DefaultRules}).After(now, Ending{}, 0.5); got != 100*time.Millisecond {
		t.Fatalf("first start that fails: got %v, want 100ms", got)
	}
	if got, _ := r.After(now, crash, 0.999999); got < 479*time.Millisecond || got > 480*time.Millisecond {
		t.Fatalf("most chance: got %v, want just under 480ms", got)
	}
}

func TestQuarantineFollowsFiveFailedStartsInAMinute(t *testing.T) {
	now := time.Unix(0, 0)
	step := func(r *Restarts, end Ending, after time.Duration) bool {
		now = now.Add(after)
		_, q := r.After(now, end, 0.5)
		return q
	}
	r := Restarts{Rules: DefaultRules}
	for i := range 20 { // four in any minute
		if step(&r, Ending{}, 16*time.Second) {
			t.Fatalf("failure %d: quarantined by slow failures", i)
		}
	}
	r = Restarts{Rules: DefaultRules}
	for i := range 5 {
		if got, want := step(&r, Ending{}, time.Second), i == 4; got != want {
			t.Fatalf("failure %d: got %v, want %v", i, got, want)
		}
	}
	if !step(&r, Ending{}, 2*time.Minute) {
		t.Fatal("the first start after a quarantine failed: expected quarantine again")
	}
	if step(&r, Ending{Ready: true}, time.Second) {
		t.Fatal("a worker that was ready is no failed start")
	}
	if step(&r, Ending{}, 2*time.Minute) {
		t.Fatal("a success ends the probing: expected a fresh count")
	}
	if !step(&r, Ending{Hopeless: true}, 2*time.Minute) {
		t.Fatal("a wrong version cannot be waited away in milliseconds: expected quarantine at once")
	}
}
