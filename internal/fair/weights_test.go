package fair

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTenantsShareByWeight(t *testing.T) {
	var q Queue[string]
	q.Weigh(Weights{"acme": 3})
	for range 1000 {
		q.Push(Key{Tenant: "acme"}, "acme")
		q.Push(Key{Tenant: "beta"}, "beta")
	}
	order := drain(&q, 400)
	for n := range order {
		if got, want := float64(count(order[:n+1], "acme")), float64(n+1)*3/4; math.Abs(got-want) > 1 {
			t.Fatalf("acme was served %v times of %d, expected %v", got, n+1, want)
		}
	}
	q.Weigh(nil)
	if got := count(drain(&q, 100), "acme"); got < 49 || got > 51 {
		t.Errorf("without weights acme was served %d times of 100, expected 50", got)
	}
}

// TestWhoComesBackAtOnceHasItsShareOnly lets a tenant wait with one entry at a time, beside crowds.
func TestWhoComesBackAtOnceHasItsShareOnly(t *testing.T) {
	var q Queue[string]
	q.Weigh(Weights{"a": 3})
	for range 1000 {
		q.Push(Key{Tenant: "a"}, "a")
		q.Push(Key{Tenant: "b"}, "b")
	}
	q.Push(Key{Tenant: "c"}, "c")
	served := map[string]int{}
	for range 500 {
		of := drain(&q, 1)[0]
		if served[of]++; of == "c" {
			q.Push(Key{Tenant: "c"}, "c")
		}
	}
	for of, want := range map[string]int{"a": 300, "b": 100, "c": 100} {
		if got := served[of]; got < want-2 || got > want+2 {
			t.Errorf("%s was served %d times of 500, expected %d", of, got, want)
		}
	}
}

// TestASingleEntryWaitsForOneTurn gives a tenant of the least weight one entry, whatever the weights and crowds of others.
func TestASingleEntryWaitsForOneTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[string]
		crowds := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "x", "y"}), rapid.IntRange(1, MaxWeight), 1, 4).Draw(t, "crowds")
		q.Weigh(crowds)
		for of := range crowds {
			for range 300 {
				q.Push(Key{Tenant: of}, of)
			}
		}
		drain(&q, rapid.IntRange(0, 200).Draw(t, "served before"))
		q.Push(Key{Tenant: "single"}, "single")
		// Those whose turn is as early as its own may go first, once each.
		if got := drain(&q, len(crowds)+1); count(got, "single") != 1 {
			t.Fatalf("with %v the order is %v", crowds, got)
		}
	})
}

func TestIdleTenantsAreForgotten(t *testing.T) {
	var q Queue[int]
	q.Push(Key{Tenant: "crowd"}, 0)
	for n := range 5000 {
		q.Push(Key{Tenant: "crowd"}, n)
		q.Push(Key{Tenant: fmt.Sprint("t", n)}, n)
		for range 2 {
			q.Serve(q.Next())
		}
	}
	if n := len(q.classes[Call].tenants); n > 3 {
		t.Errorf("%d tenants are kept while one waits", n)
	}
	q.Serve(q.Next())
	if n := len(q.classes[Call].tenants); n > 0 {
		t.Errorf("%d tenants are kept while none waits", n)
	}
}

func TestWeightsAreReadAndWritten(t *testing.T) {
	var w Weights
	if err := w.Set("beta=1,acme=3,x=100"); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); got != "acme=3,beta=1,x=100" {
		t.Errorf("got %s", got)
	}
	if err := w.Set(""); err != nil || len(w) != 0 {
		t.Errorf("no weights: %v %v", w, err)
	}
	var most []string
	for n := range MaxWeights {
		most = append(most, fmt.Sprintf("t%d=2", n))
	}
	if err := w.Set(strings.Join(most, ",")); err != nil || len(w) != MaxWeights {
		t.Errorf("%d weights: %v", len(w), err)
	}
	for text, want := range map[string]string{
		"acme":                           `must be TENANT=WEIGHT, several separated by commas, got "acme"`,
		"acme=3,":                        `must be TENANT=WEIGHT, several separated by commas, got ""`,
		"ac me=3":                        `must be TENANT=WEIGHT, several separated by commas, got "ac me=3"`,
		"=3":                             `must be TENANT=WEIGHT, several separated by commas, got "=3"`,
		"acme=0":                         "must be whole numbers from 1 to 100, got acme=0",
		"acme=101":                       "must be whole numbers from 1 to 100, got acme=101",
		"acme=1.5":                       "must be whole numbers from 1 to 100, got acme=1.5",
		"acme=1,acme=2":                  "must have each tenant once, got acme twice",
		strings.Join(most, ",") + ",u=1": "must have at most 1000 tenants, got more",
	} {
		before := maps.Clone(w)
		if err := w.Set(text); err == nil || err.Error() != want {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
		if !maps.Equal(w, before) {
			t.Errorf("%.40q was refused and changed the weights", text)
		}
	}
}
