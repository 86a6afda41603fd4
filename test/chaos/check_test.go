//go:build chaos

package chaos

import (
	"fmt"
	"slices"
	"testing"
)

// job is what a client saw of one job: it appended the number x to its session's list, or, without session, had x echoed.
type job struct {
	tenant, session, id string
	x                   int
	published           bool
	accepted            bool // the broker or a dispatcher reported it, or it has an outcome
	asked               int  // times the client sent it, or requested it
	ended               bool
	failure             string // its error, if it failed
	list                []int  // the session's list after it
	reset               bool   // the session was reported to have begun again
}

// check returns what broke a promise. jobs of a session are in the order in which they were sent.
func check(all []job) (violations []string) {
	say := func(j job, format string, args ...any) {
		violations = append(violations, fmt.Sprintf("tenant %s, session %q, job %s (x = %d): ", j.tenant, j.session, j.id, j.x)+fmt.Sprintf(format, args...))
	}
	lists := map[[2]string][]int{} // what each session's list must hold
	for _, j := range all {
		switch of := [2]string{j.tenant, j.session}; {
		case !j.accepted:
		case !j.ended:
			say(j, "accepted, and no outcome: lost")
		case j.failure != "":
			say(j, "failed: %s", j.failure)
		case j.session == "" && !slices.Equal(j.list, []int{j.x}):
			say(j, "the outcome of another: %v", j.list)
		case j.session == "":
		case j.reset:
			say(j, "the session began again")
		default:
			lists[of] = append(lists[of], j.x)
			if want := lists[of]; !slices.Equal(j.list, want) {
				say(j, "the list is %v, must be %v: lost, doubled, or out of order", tail(j.list), tail(want))
				lists[of] = j.list // reported once
			}
		}
	}
	return violations
}

// tail shortens a list for people.
func tail(list []int) string {
	if len(list) <= 8 {
		return fmt.Sprint(list)
	}
	return fmt.Sprintf("%d numbers that end in %v", len(list), list[len(list)-8:])
}

func TestTheHistoryIsObjectedTo(t *testing.T) {
	good := func() []job {
		var all []job
		for x := range 4 {
			j := job{tenant: "t", session: "s", id: fmt.Sprint("j", x), x: x, accepted: true, asked: 1, ended: true}
			for n := range x + 1 {
				j.list = append(j.list, n)
			}
			all = append(all, j)
		}
		return append(all, job{tenant: "t", id: "a", x: 7, accepted: true, ended: true, list: []int{7}}, job{tenant: "t", session: "s", id: "refused"})
	}
	if v := check(good()); len(v) != 0 {
		t.Errorf("a good history: %v", v)
	}
	for name, spoil := range map[string]func(all []job){
		"a lost job":             func(all []job) { all[2].ended = false },
		"a failed job":           func(all []job) { all[2].failure = "timeout_error" },
		"a lost change":          func(all []job) { all[2].list = []int{0, 2} },
		"a doubled change":       func(all []job) { all[2].list = []int{0, 1, 1, 2} },
		"two in the wrong order": func(all []job) { all[2].list = []int{1, 0, 2} },
		"an empty session":       func(all []job) { all[3].list = []int{3} },
		"a reset":                func(all []job) { all[3].reset = true },
		"another's outcome":      func(all []job) { all[4].list = []int{8} },
	} {
		all := good()
		spoil(all)
		if len(check(all)) == 0 {
			t.Errorf("%s is not objected to", name)
		}
	}
}
