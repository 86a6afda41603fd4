package batch

import (
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// TestLooksAreAsRareAsTheEndsOfJobs: between two looks an eighth to a quarter of the window ends, whatever the rate.
func TestLooksAreAsRareAsTheEndsOfJobs(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		least     time.Duration
		most      time.Duration
	}{{300, 20 * time.Millisecond, lookFew}, {4000, lookSoon, 2 * lookSoon}, {0, lookLate, lookLate}, {40, lookFew, lookFew}} {
		const window = 64
		pause, left := lookSoon, 0.0
		for n := range 100 {
			left += c.perSecond * pause.Seconds()
			found := int(left)
			left -= float64(found)
			if n > 20 && found > 0 && (pause < c.least || pause > c.most) {
				t.Fatalf("%v a second: look %d comes after %v, want %v to %v", c.perSecond, n, pause, c.least, c.most)
			}
			pause = pauseAfter(pause, found, window)
		}
		if c.perSecond == 0 && pause != lookLate {
			t.Errorf("nothing ends: looks come after %v", pause)
		}
	}
}

func TestOneJobAtATimeIsLookedForSoon(t *testing.T) {
	pause := lookLate
	for range 10 {
		pause = pauseAfter(pause, 1, 1)
	}
	if pause != lookSoon {
		t.Errorf("each look finds all there is, and comes after %v", pause)
	}
}

// TestAJobWhoseReplyIsLostIsLookedForThoughOthersCome: a job's outcome is read though the replies of others never cease.
func TestAJobWhoseReplyIsLostIsLookedForThoughOthersCome(t *testing.T) {
	r, do := opened(t, 400, "")
	var looks [][]int
	for now := t0; now.Before(t0.Add(1600 * time.Millisecond)); now = now.Add(20 * time.Millisecond) {
		var next []Action
		for _, a := range append(do, step(r, now, Tick{})...) {
			switch a := a.(type) {
			case Look:
				looks = append(looks, a.Indexes)
				next = append(next, step(r, now, Looked{})...)
			case Feed:
				next = append(next, step(r, now, Fed(a))...)
				if a.Index != 0 {
					next = append(next, step(r, now, Replied{a.Index, &End{Index: a.Index, Kind: jobs.Succeeded, Bytes: 10}})...)
				}
			}
		}
		do = next
	}
	if len(looks) == 0 || len(looks) > 8 {
		t.Fatalf("%d looks in 1.6 s, expected some: for the job without a reply", len(looks))
	}
	for _, at := range looks {
		if !slices.Equal(at, []int{0}) {
			t.Errorf("looked at %v, expected the job without a reply alone", at)
		}
	}
}

func TestTheOutcomeOfAJobThatHasNotSucceededIsReadSoonAfterItsReply(t *testing.T) {
	r, _ := opened(t, 3, "")
	for index := range 3 {
		step(r, t0, Fed{index})
	}
	step(r, t0.Add(lookSoon), Tick{})
	step(r, t0.Add(lookSoon), Looked{})
	r.lookAt = t0.Add(lookLate)
	now := t0.Add(20 * time.Millisecond)
	step(r, now, Replied{Index: 1})
	if got := of[Look](t, step(r, now.Add(lookSoon), Tick{})).Indexes; !slices.Equal(got, []int{1}) {
		t.Errorf("looked at %v, expected the job with a reply", got)
	}
}

func TestAReplyOfAJobThatWasNeverPublishedCountsForNothing(t *testing.T) {
	r, _ := opened(t, 10, "")
	step(r, t0, Replied{9, &End{Index: 9, Kind: jobs.Succeeded, Bytes: 10}})
	if r.rec.Seen.Succeeded != 0 {
		t.Errorf("%d have succeeded, expected none", r.rec.Seen.Succeeded)
	}
}
