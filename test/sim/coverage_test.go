package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/jobs"
)

// coverage counts which fault struck where while a job was in flight: row (a point, or any time) -> fault -> count.
type coverage struct {
	mu   sync.Mutex
	rows map[string]map[string]int
}

// Rows that are no points.
const (
	anyTime = "any time"
	inJobs  = "in jobs"
)

func (s *coverage) add(row, what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[string]map[string]int{}
	}
	if s.rows[row] == nil {
		s.rows[row] = map[string]int{}
	}
	s.rows[row][what] += n
}

func (s *coverage) merge(rows map[string]map[string]int) {
	for row, cells := range rows {
		for what, n := range cells {
			s.add(row, what, n)
		}
	}
}

// What jobs, clients and time do by themselves; a run without one of them proves less than it reports.
const (
	jobFails        = "an attempt failed"
	jobKills        = "a job killed its worker"
	jobSlow         = "an attempt took too long"
	jobDeadLettered = "a job was dead-lettered"
	jobExpired      = "a job expired before its turn"
	jobCancelled    = "a job was cancelled"
	jobTwice        = "a job was stored twice"
	jobConflict     = "an id came with another payload"
	jobLater        = "an attempt other than the first succeeded"
	ackMissed       = "a client got no PubAck"
	stateReset      = "a state was reset after idle time"
	stateMoved      = "a state was restored on another worker"
	cleanedUp       = "a session was cleaned up"
	epochEnds       = "a commit by another epoch than the one before"
	tooLarge        = "an outcome or a state did not fit"
	recordGone      = "a session record expired"
)

var inJobsRows = []string{jobFails, jobKills, jobSlow, jobDeadLettered, jobExpired, jobCancelled, jobTwice, jobConflict, jobLater, ackMissed, stateReset, stateMoved, cleanedUp, epochEnds,
	tooLarge, recordGone}

// atPoints are faults that come at points only, and each must.
var atPoints = []faultKind{hostFreezeLong, hostLate, deliveryLost, fullAndKill}

func jobsRows() []string {
	rows := slices.Clone(inJobsRows)
	for _, k := range atPoints {
		rows = append(rows, string(k))
	}
	return rows
}

// rowsOf are all rows and, for those that are no points, the cells that must not be zero.
func rowsOf() (points []string) {
	for _, at := range hostPoints {
		if at == pointRunStart || at == pointRunEnd {
			points = append(points, string(at))
			continue
		}
		points = append(points, string(at)+side(false), string(at)+side(true))
	}
	for _, at := range append([]point{pointLease, pointEndpoint, pointPiece}, batchPoints...) {
		points = append(points, string(at)+side(false), string(at)+side(true))
	}
	return append(points, string(pointSubmit)+side(true))
}

// missing names what never struck.
func (s *coverage) missing() (none []string) {
	for _, k := range append(timedFaults, allStopped) {
		if s.rows[anyTime][string(k)] == 0 {
			none = append(none, string(k)+" at any time")
		}
	}
	for _, row := range rowsOf() {
		if len(s.rows[row]) == 0 {
			none = append(none, "anything at: "+row)
		}
	}
	for _, what := range jobsRows() {
		if s.rows[inJobs][what] == 0 {
			none = append(none, what)
		}
	}
	return none
}

// String is the table.
func (s *coverage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-44s %8s\n", "struck while a job was in flight", "times")
	for _, k := range append(timedFaults, allStopped) {
		fmt.Fprintf(&b, "  %-42s %8d\n", k, s.rows[anyTime][string(k)])
	}
	fmt.Fprintf(&b, "%-44s %8s  %s\n", "at a point", "times", "by what")
	for _, row := range rowsOf() {
		total := 0
		var by []string
		for _, what := range slices.Sorted(maps.Keys(s.rows[row])) {
			total += s.rows[row][what]
			by = append(by, fmt.Sprintf("%s %d", what, s.rows[row][what]))
		}
		fmt.Fprintf(&b, "  %-42s %8d  %s\n", row, total, strings.Join(by, ", "))
	}
	fmt.Fprintf(&b, "%-44s %8s\n", "in jobs, clients and time", "times")
	for _, what := range jobsRows() {
		fmt.Fprintf(&b, "  %-42s %8d\n", what, s.rows[inJobs][what])
	}
	return b.String()
}

// countJobs adds what a history shows of jobs, clients and time.
func (s *coverage) countJobs(h *history) {
	workers, epochs := map[string]string{}, map[string]uint64{}
	messages := map[string]int{}
	h.each(func(e event) {
		switch {
		case e.kind == ended && e.text == "fails":
			s.add(inJobs, jobFails, 1)
		case e.kind == ended && e.text == "kills its worker":
			s.add(inJobs, jobKills, 1)
		case e.kind == ended && e.text == "cancelled":
			s.add(inJobs, jobSlow, 1)
		case e.kind == deadLetter:
			s.add(inJobs, jobDeadLettered, 1)
		case e.kind == stored:
			if messages[key(e)]++; messages[key(e)] == 2 {
				s.add(inJobs, jobTwice, 1)
			}
		case e.kind == answered && e.text == "conflict":
			s.add(inJobs, jobConflict, 1)
		case e.kind == unclear:
			s.add(inJobs, ackMissed, 1)
		case e.kind == resulted && e.text == "expired" && e.attempt == 0:
			s.add(inJobs, jobExpired, 1)
		case e.kind == resulted && e.text == "cancelled":
			s.add(inJobs, jobCancelled, 1)
		case e.kind == removed && e.session != "":
			s.add(inJobs, recordGone, 1)
		case e.kind == answered && (e.text == jobs.CodeResultTooLarge || e.text == jobs.CodeStateTooLarge):
			s.add(inJobs, tooLarge, 1)
		case e.kind == fault:
			for _, k := range atPoints {
				if strings.HasPrefix(e.text, string(k)+" for") {
					s.add(inJobs, string(k), 1)
				}
			}
		case e.kind == committed && e.record.Last != nil:
			s.countCommit(e, workers, epochs)
		}
	}, ended, deadLetter, stored, answered, unclear, resulted, committed, removed, fault)
}

func (s *coverage) countCommit(e event, workers map[string]string, epochs map[string]uint64) {
	var r reply
	_ = decodeReply(e.body, &r) // an unreadable one is the checker's
	if e.text == "succeeded" && e.attempt > 1 {
		s.add(inJobs, jobLater, 1)
	}
	if r.Session.State == "reset" {
		s.add(inJobs, stateReset, 1)
	}
	if before := workers[e.session]; before != "" && before != e.record.Worker && r.Session.State == "restored" {
		s.add(inJobs, stateMoved, 1)
	}
	if e.record.StateVersion == 0 && r.OK {
		s.add(inJobs, cleanedUp, 1)
	}
	if before := epochs[e.session]; before != 0 && before != e.epoch {
		s.add(inJobs, epochEnds, 1)
	}
	workers[e.session], epochs[e.session] = e.record.Worker, e.epoch
}
