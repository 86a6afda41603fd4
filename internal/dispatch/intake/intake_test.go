package intake

import (
	"slices"
	"testing"
	"time"
)

func TestWhatIsHeldIsBoundedInBytesAndInNumber(t *testing.T) {
	now := time.Unix(1, 0)
	var in room
	for range 32 {
		if in.takes(now, 1<<20) != 0 {
			t.Fatalf("refused with %d bytes", in.bytes)
		}
	}
	if in.takes(now, 1) == 0 {
		t.Error("it takes a byte more than it may hold")
	}
	in.gives(now, 1<<20)
	if in.takes(now, 1<<20) != 0 {
		t.Error("what was given back is not free again")
	}

	in = room{}
	for range mostRequests {
		if in.takes(now, 10) != 0 {
			t.Fatalf("refused with %d requests", in.calls)
		}
	}
	if in.takes(now, 10) == 0 {
		t.Error("it takes a request more than it may hold")
	}
}

// Those who are refused come back one after the other, at half of the rate that was seen, after half of what is there.
func TestWhoIsRefusedComesBackWhenThereIsRoom(t *testing.T) {
	now := time.Unix(1, 0)
	var in room
	in.measure(now)
	for range 64 { // 16 MiB in a second
		in.takes(now, 1<<20)
		in.gives(now.Add(time.Second/2), 1<<20)
		if in.done == 16<<20 {
			break
		}
	}
	now = now.Add(time.Second)
	in.measure(now)
	for in.takes(now, 1<<20) == 0 {
	}
	in.next = time.Time{}
	var at []time.Duration
	for range 3 {
		at = append(at, in.takes(now, 1<<20).Round(time.Millisecond))
	}
	if want := []time.Duration{1125 * time.Millisecond, 1250 * time.Millisecond, 1375 * time.Millisecond}; !slices.Equal(at, want) {
		t.Errorf("back after %v, want %v", at, want)
	}
	for range 1000 {
		if retry := in.takes(now, 1<<20); retry > mostRetry {
			t.Fatalf("back after %v", retry)
		}
	}
}
