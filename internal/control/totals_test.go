package control

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func beat(host, incarnation string, started, requests int64) Heartbeat {
	return Heartbeat{Host: host, Incarnation: incarnation, Started: started, Requests: requests, Errors: requests / 2}
}

func TestARestartedHostGoesOnCounting(t *testing.T) {
	var d Totals
	d.Note(beat("h1", "a", 1, 10))
	d.Note(beat("h1", "a", 1, 12))
	d.Note(beat("h1", "a", 1, 11)) // late
	d.Note(beat("h1", "b", 2, 0))
	d.Note(beat("h1", "b", 2, 3))
	if s := d.Sum(); s.Requests != 15 || s.Errors != 7 {
		t.Errorf("%+v", s)
	}
	if d.Note(beat("h1", "b", 2, 3)) {
		t.Error("what is known is no news")
	}
}

// TestTotalsOfDispatchersAgree: dispatchers that receive parts of the heartbeats, and write and read one value in any order, count what
// there was, each incarnation once, however many are folded.
func TestTotalsOfDispatchersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lives := rapid.IntRange(1, 3*mostIncarnations).Draw(t, "lives")
		seen := make([]Totals, 3)
		written := Totals{}
		write := func(d int, alive string) {
			seen[d].Merge(written)
			seen[d].Fold(func(incarnation string) bool { return incarnation == alive })
			value, err := json.Marshal(seen[d])
			if err != nil {
				t.Fatal(err)
			}
			if written, err = ParseTotals(value); err != nil {
				t.Fatal(err)
			}
		}
		want := int64(0)
		for life := range lives {
			n := rapid.Int64Range(0, 100).Draw(t, "requests")
			incarnation := fmt.Sprint(life)
			want += n
			for d := range seen { // all receive the last beat, some of them others
				if rapid.Bool().Draw(t, "hears") {
					seen[d].Note(beat("h1", incarnation, int64(life+1), n/2))
				}
				seen[d].Note(beat("h1", incarnation, int64(life+1), n))
			}
			if rapid.Bool().Draw(t, "writes") {
				write(rapid.IntRange(0, 2).Draw(t, "who"), incarnation)
			}
		}
		for d := range seen {
			seen[d].Merge(written)
			if got := seen[d].Sum().Requests; got != want {
				t.Fatalf("dispatcher %d counts %d, want %d", d, got, want)
			}
			if got := len(seen[d].Incarnations); got > lives {
				t.Fatalf("%d lives of %d", got, lives)
			}
		}
		write(0, "")
		fresh := Totals{}
		fresh.Merge(written)
		if got := fresh.Sum().Requests; got != want || len(fresh.Incarnations) > mostIncarnations {
			t.Fatalf("a new dispatcher counts %d in %d lives, want %d", got, len(fresh.Incarnations), want)
		}
	})
}

func TestOnlyTotalsAreBelieved(t *testing.T) {
	for value, ours := range map[string]bool{
		`{"past":{},"until":0,"lives":{"a":{"host":"h1","started":1,"requests":5}}}`: true,
		`{}`:                             true,
		`[]`:                             false,
		`{"past":{"requests":-1}}`:       false,
		`{"lives":{"a":{"host":"a b"}}}`: false,
		``:                               false,
	} {
		if got := Ours(TotalsKey, []byte(value)); got != ours {
			t.Errorf("%s: %t", value, got)
		}
	}
}
