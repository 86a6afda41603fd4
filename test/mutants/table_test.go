package mutants

// mutants are the rules, each left out once. The bugs that the simulation found are among them.
var mutants = []mutant{
	{name: "nothing left out", survives: "else the other verdicts mean nothing"},
	{name: "ack before commit", rule: "The straight line", edits: []edit{{hostRecord,
		"	if err := s.commit(ctx, t, &next); err != nil {\n		return err\n	}\n	h.count",
		"	_ = h.ack(t.job)\n	if err := s.commit(ctx, t, &next); err != nil {\n		return err\n	}\n	h.count"}}},
	{name: "ack before the result is confirmed", rule: "The straight line", aim: []string{"store of results full, and then the host killed"}, edits: []edit{{hostComplete,
		"	if err := <-stored; err != nil {\n		return err\n	}\n	return h.ack(j)\n}\n\nvar",
		"	return h.ack(j)\n}\n\nvar"}}},
	{name: "no compare-and-set on the record", rule: "Rule 1", aim: []string{"host frozen until its job starts elsewhere"}, edits: []edit{{hostRecord,
		"h.records.PutSync(s.ref.RecordKey(), next.Append(nil), s.recRev, s.ttl(left))\n",
		"h.records.PutSync(s.ref.RecordKey(), next.Append(nil), s.recRev, s.ttl(left))\n			if errors.Is(err, stream.ErrWrongRevision) {\n				e, _ := h.records.Get(ctx, s.ref.RecordKey())\n				rev, err = h.records.PutSync(s.ref.RecordKey(), next.Append(nil), e.Revision, s.ttl(left))\n			}\n"}}},
	{name: "no compare-and-set on the head", rule: "Rule 3", aim: []string{"host frozen until its job starts elsewhere"}, edits: []edit{{hostRecord,
		"h.records.PutSync(key, body, s.headRev, s.ttl(left))\n",
		"h.records.PutSync(key, body, s.headRev, s.ttl(left))\n			if errors.Is(err, stream.ErrWrongRevision) {\n				e, _ := h.records.Get(ctx, key)\n				rev, err = h.records.PutSync(key, body, e.Revision, s.ttl(left))\n			}\n"}}},
	{name: "last sequence ignored", rule: "Rule 2", edits: []edit{
		{hostProcess, "	if j.seq <= s.record.LastSequence {\n", "	if false {\n"},
		{hostRecord, " || s.record.LastSequence >= t.seq || s.record", " || s.record"}}},
	{name: "fenced by nobody after a lost compare-and-set", rule: "Rule 3", aim: []string{"host frozen until its job starts elsewhere"}, edits: []edit{{hostRecord,
		"	if err := s.p.mine(ctx); err != nil {\n		return false, err\n	}\n	if cur != nil && cur.Last",
		"	if cur != nil && cur.Last"}},
		survives: "what it lets through needs a lost acknowledgement just before a successor's early end: TestAnOwnCommitUnderASuccessorsRevisionIsNotWrittenOver makes both"},
	{name: "a lost compare-and-set is written over", rule: "Rule 3", aim: []string{"host frozen until its job starts elsewhere"}, edits: []edit{{hostRecord,
		"			return false, errVoid\n		}\n		s.record.Ended = cur.Ended",
		"		}\n		s.record.Ended = cur.Ended"}}},
	{name: "another's head is written over", rule: "Rule 3", aim: []string{"late retries"}, edits: []edit{{hostRecord,
		"(s.head == nil || !s.head.Same(cur)) {\n		return false, errVoid", "(s.head == nil || !s.head.Same(cur)) {\n		s.head = cur"}}},
	{name: "own write taken for another's", rule: "Rule 3", edits: []edit{{hostRecord,
		"if cur != nil && cur.Last != nil && cur.Last.Epoch == s.p.epoch && cur.Last.Sequence == t.seq && cur.Last.Attempt == t.attempt {",
		"if false {"}},
		survives: "the attempt is void, and the job is completed from the record: only the work of an attempt is lost"},
	{name: "a session loaded by whoever holds it", rule: "Rule 7", aim: []string{"host frozen until its job starts elsewhere"}, edits: []edit{{hostRecord,
		"	if err := s.p.mine(ctx); err != nil {\n		return err\n	}\n	if rec.Revision", "	if rec.Revision"}}},
	{name: "late write without reading again", rule: "Rule 7", aim: []string{"host frozen for over an hour"}, edits: []edit{{hostRecord,
		"s.known && time.Since(s.loaded) <= s.ttl(0)/2 && !s.lapsed()", "s.known && !s.lapsed()"}}},
	{name: "what the broker let wait is written as it was", rule: "Rule 7", aim: []string{"host frozen for over an hour"}, edits: []edit{{hostRecord,
		"			if err := s.still(ctx, t); err != nil {\n				return err\n			}\n			next.Ended", "			next.Ended"}}},
	{name: "no look for a result before the first start", rule: "Rule 4", edits: []edit{{hostProcess,
		"if t.env.Chosen || h.before(j, s.since) {", "if false {"}}},
	{name: "no look for a result of chosen ids", rule: "Rule 4", edits: []edit{{hostProcess,
		"if t.env.Chosen || h.before(j, s.since) {", "if h.before(j, s.since) {"}}},
	{name: "any payload is a repeat", rule: "Rule 4", edits: []edit{{"internal/host/repeat.go",
		"case r.Hash != t.req.Hash:", "case false:"}}},
	{name: "early end acknowledged without a result", rule: "Rule 5", edits: []edit{
		{hostServe, "	if err := s.finish(ctx, t, kind, once); err != nil { // the next duties try again: what runs must not wait for it\n		s.resultRefused(err)\n		return err\n	}\n	s.wasAnswered(j)", "	s.wasAnswered(j)"},
		{hostProcess, "		if !j.answered {\n", "		if false {\n"}}},
	{name: "an early end that is not in the record", rule: "Rule 5", aim: []string{"impatient clients"}, edits: []edit{{hostServe,
		"} else if err := s.writeEnd(ctx, j.seq, kind); err != nil {", "} else if err := error(nil); err != nil {"}}},
	{name: "an early end over another outcome", rule: "Rule 4", aim: []string{"impatient clients"}, edits: []edit{{hostComplete,
		"	if done, err := s.answerStored(ctx, t); done || err != nil {\n		return err\n	}\n	e := ", "	e := "}}},
	{name: "an early end of the job that runs", rule: "Rule 5", aim: []string{"impatient clients"}, edits: []edit{{hostServe, "	if s.runs(j) {", "	if false {"}}},
	{name: "a repeat's deadline ends the first submit", rule: "Rule 5", aim: []string{"impatient clients"}, edits: []edit{{hostSession,
		"return j.bound > 0 && !j.repeat", "return j.bound > 0"}}},
	{name: "cleanup forgets early ends", rule: "Rule 6", aim: []string{"impatient clients"}, edits: []edit{{hostRecord,
		"next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()",
		"next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()\n			if empties(t.req.Command) {\n				next.Ended = nil\n			}\n			_ = 0"}}},
	{name: "cleanup deletes the record", rule: "Rule 6", aim: []string{"cleaned up under fire"}, edits: []edit{{hostRecord,
		"	h.count(t, out.ran, e)\n",
		"	if e == nil && empties(t.req.Command) {\n		_, _ = h.records.Delete(s.ref.RecordKey(), s.recRev)\n		s.known = false\n	}\n	h.count(t, out.ran, e)\n"}}},
	{name: "attempts forgotten at a take-over, as NumDelivered is", rule: "Rule 10", edits: []edit{{hostProcess,
		"	t.attempt, t.failures = hd.Attempt, hd.Failures\n	if hd.NotBefore", "	if hd.NotBefore"}}},
	{name: "a crash is no attempt", rule: "Rule 10", edits: []edit{{hostProcess,
		"		s.p.h.note(t, crashed(hd.Attempt))\n		return nil\n", "		t.attempt--\n		return nil\n"}}},
	{name: "the head is written after the start", rule: "Rule 10", edits: []edit{
		{hostProcess, "	if err := s.writeHead(ctx, t, 0); err != nil {\n		slot.Release()\n		return false, 0, err\n	}\n", ""},
		{hostProcess, "	out := s.run(ctx, t, slot)",
			"	out := s.run(ctx, t, slot)\n	if err := s.writeHead(ctx, t, 0); err != nil {\n		slot.Release()\n		return false, 0, err\n	}"}}},
	{name: "gate left open during backoff", rule: "Retries", edits: []edit{{hostProcess,
		"	if err := s.pause(ctx, t, t.again, delay+time.Second); err != nil {", "	if err := errLeaving; err != nil {"}}},
	{name: "a retry starts with any redelivery", rule: "Rule 10", aim: []string{"jobs that wait for longer than sessions live", "connection reset"}, edits: []edit{{hostProcess,
		"left > 0 && !t.isCancelled() {", "false && left > 0 {"}}},
	{name: "no wait for what is left of a delay", rule: "Rule 10", edits: []edit{{hostProcess,
		"left := s.p.h.waits(hd); left > 0 {", "left := time.Duration(0); left > 0 {"}}},
	{name: "the dead letter is not repaired", rule: "Rule 1", aim: []string{"write dead letter, before"}, edits: []edit{{hostComplete,
		"		return s.complete(ctx, j, o, true)\n", "		unburied := *o\n		unburied.Buried = false\n		return s.complete(ctx, j, &unburied, true)\n"}}},
	{name: "default reconnect buffer", rule: "Connections", aim: []string{"host frozen for over an hour"}, edits: []edit{{"internal/stream/connect.go",
		"nats.ReconnectBufSize(-1), ", ""}}},
	{name: "a host leaves a partition that still names it", rule: "Ownership", aim: []string{"broker killed"}, edits: []edit{{hostTenure,
		"		if a.owner.Incarnation != h.incarnation || epoch <= used {\n", "		if epoch <= used {\n			wait(t.ctx, a.changed, 0)\n			continue\n		}\n		if false {\n"}}},
	{name: "no look at the assignment before a consumer is deleted or created", rule: "Ownership", aim: []string{"create consumer, before", "delete consumer, before", "write assignment, after"}, edits: []edit{
		{streamTake, "		if err := c.mine(ctx, want); err != nil {\n			return nil, 0, err\n		}\n", ""},
		{streamTake, "		if err := c.mine(ctx, want); err != nil {\n			return err\n		}\n", ""}},
		survives: "a claimant that comes too late could stall behind its look as well: the owner notices the loss of its consumer and takes the partition anew, and every load asks whose it is"},
	{name: "the same epoch again after the consumer was lost", rule: "Ownership", aim: []string{"broker killed", "host cut off"}, edits: []edit{{hostTenure,
		"a.owner.Incarnation != h.incarnation || epoch <= used {", "a.owner.Incarnation != h.incarnation {"}},
		survives: "both epochs are of one process, which knows what it runs: an acknowledgement that is late names a job with a stored outcome (600 seeds)"},
	{name: "delivery behind a gap kept", rule: "Reconnects", aim: []string{"delivery lost"}, edits: []edit{{hostPartition,
		"	gap := !p.resetting && sequence != p.next\n", "	gap := false\n"}}},
	{name: "the first delivery behind a reset is waited for without end", rule: "Reconnects", aim: []string{"delivery lost", "delivery, before"}, edits: []edit{{hostPartition,
		"	if gap || lost {\n", "	if lost = false; gap || lost {\n"}}},
	{name: "no reset after a reconnect", rule: "Reconnects", aim: []string{"connection reset", "host cut off, down only"}, edits: []edit{{hostPartition,
		"		case <-connected:\n			p.reset()\n", "		case <-connected:\n"}}},
	{name: "no second reset before the first one brought a job", rule: "Reconnects", aim: []string{"reset consumer, after", "host cut off, down only"}, edits: []edit{{hostPartition,
		"	if p.closing {\n		return\n	}\n	p.resetting, p.again", "	if p.closing || p.resetting {\n		return\n	}\n	p.resetting, p.again"}}},
	{name: "what does not fit is committed all the same", rule: "Rule 8", edits: []edit{{hostRun,
		"len(r.Value), h.maxPayload/4; size > limit {", "len(r.Value), h.maxPayload/4; false && size > limit {"}, {hostRun,
		"if limit := h.maxPayload / 2; len(r.State) > limit {", "if limit := h.maxPayload / 2; false && len(r.State) > limit {"}, {hostRun,
		"out.err == nil && size > limit {", "false && size > limit {"}}},
	{name: "nothing waits while the store is full", rule: "Rule 9", aim: []string{"store of records full"}, edits: []edit{{"internal/host/stuck.go",
		"for h.full.Load() > 0 && !t.isCancelled() {", "for false {"}},
		survives: "a start writes its head, which a full store of records refuses; what runs all the same waits with its outcome: only work is lost if its host dies"},
	{name: "a worker's state of any version counts as warm", rule: "Affinity", aim: []string{"write record, after"}, edits: []edit{{hostRun,
		"case s.worker == slot.WorkerID() && s.version == s.record.StateVersion:", "case s.worker == slot.WorkerID():"},
		{hostRecord, "		s.worker, s.version = 0, 0\n", ""}},
		survives: "the worker compares versions itself and asks for the state: a wrong guess costs a second call"},
	{name: "a waiting job lets its session grow idle", rule: "Session states", aim: []string{"jobs that wait for longer than sessions live"}, edits: []edit{{hostRecord,
		"		idle -= s.p.h.age(s.running)\n", ""}}},
	{name: "a twin is not noticed", rule: "Ownership", aim: []string{"host frozen and replaced by its twin"}, edits: []edit{{hostTwin,
		"		lose(fmt.Errorf(", "		_ = (fmt.Errorf("}}},
	{name: "a job that ends between two looks is unknown", rule: "Outcomes that are asked for", aim: []string{"clients that poll"}, edits: []edit{{"internal/dispatch/lookup.go",
		"		if bad != nil && bad.Code == jobs.CodeJobUnknown { // it may", "		if false { // it may"}}},
	{name: "a new leader takes from hosts that it has not heard", rule: "Ownership", aim: []string{"leader restarted again and again"}, edits: []edit{{"internal/dispatch/liveness.go",
		"			unjudged = append(unjudged, name)\n", ""}}},
	{name: "a new leader plans with the first host that it hears", rule: "Ownership", aim: []string{"leader restarted again and again"}, edits: []edit{{"internal/dispatch/assign.go",
		"len(unjudged) > 0 && !d.hosts.listened() {", "false {"}},
		survives: "what a host holds that was not heard is left alone: only a partition that nobody holds goes to the first host, and moves again"},
	{name: "each attempt is a failure of the model", rule: "Circuit breakers", aim: []string{"language model that fails"}, edits: []edit{{"internal/host/breakers.go",
		"		lm = breaker.Retried\n", ""}}},
	{name: "each host counts for itself", rule: "Circuit breakers", aim: []string{"language model that fails"}, edits: []edit{{"internal/host/tally.go",
		"	for name, t := range h.outages.takeTallies() {\n", "	for name, t := range map[string]tally{} {\n"}}},
	{name: "a success sets nothing back on other hosts", rule: "Circuit breakers", aim: []string{"language model that fails"}, edits: []edit{{"internal/breaker/breaker.go",
		"		return Cleared\n", "		return \"\"\n"}}},
	{name: "all that was in a dead worker counts", rule: "Circuit breakers", aim: []string{"workers that die with all that is in them"}, edits: []edit{{"internal/host/breakers.go",
		"	case out.answered || h.ends.first(out.slot):\n", "	default:\n"}}},
	{name: "a layout is served before the one before it is empty", rule: "Broker objects", aim: []string{repartitioned}, edits: []edit{{streamLayout,
		"	if token == next.Token {", "	if true {"}}},
	{name: "an assignment of another layout is left as it is", rule: "Broker objects", aim: []string{repartitioned}, edits: []edit{{dispatchAssign,
		"if o.Host != \"\" && (foreign || o.Token() != l.Token) {", "if foreign {"}}},
	{name: "what other layouts leave behind is kept", rule: "Broker objects", aim: []string{repartitioned}, edits: []edit{{"internal/dispatch/partitions.go",
		"	if d.swept == l {", "	if true {"}}},
	{name: "what is missing is not made again", rule: "Broker objects", aim: []string{assignLost}, edits: []edit{{"internal/dispatch/stores.go",
		"	if len(found.Missing) > 0 {\n		settings", "	if false {\n		settings"}}},
	{name: "what is made again begins at 1", rule: "Broker objects", aim: []string{assignLost}, edits: []edit{{"internal/stream/lives.go",
		"		cfg.FirstSeq = first\n", "		_ = first\n"}}},
	{name: "what stood still starts what it was about to", rule: "Ownership", aim: []string{"host frozen after it has written a head", "write head, after"}, edits: []edit{{"internal/host/lease.go",
		"	for !leaseHolds(t.confirmed, s.p.h.clock.Mono()) {\n", "	for false {\n"}}},
	{name: "a host trusts its own wall clock", rule: "The broker's time", aim: []string{hostClock}, edits: []edit{{"internal/clock/clock.go",
		"	return c.e.at(c.machine.Mono())\n}\n\n// Age", "	return c.machine.Wall().Round(0)\n}\n\n// Age"}}},
	{name: "a deadline passes by a clock that may have been set", rule: "The broker's time", aim: []string{"deadlines while the broker's clock is set"}, edits: []edit{
		{hostClockFile, "	if err := h.clock.Confirm(ctx, t.came); err != nil {\n		return false, err\n	}\n	left, has", "	left, has"},
		{hostServe, "		if _, sure := s.p.h.clock.Sure(j.came); sure || s", "		if sure := true; sure || s"}}},
	{name: "a session is idle by a clock that may have been set", rule: "The broker's time", aim: []string{"deadlines while the broker's clock is set"}, edits: []edit{{hostRecord,
		"	if err := h.clock.Confirm(ctx, since); err != nil {\n		return false, err\n	}\n	return s.idleFor()", "	_ = since\n	return s.idleFor()"}}},
	{name: "a step of the broker's clock makes everything older", rule: "The broker's time", aim: []string{brokerClock}, edits: []edit{{"internal/clock/clock.go",
		"	return c.e.age(stamp, c.machine.Mono())", "	return max(c.e.at(c.machine.Mono()).Sub(stamp), 0)"}}},
	{name: "the tenant left out of a record's key", rule: "Tenants and roles", aim: []string{twoTenants}, edits: []edit{{jobsTenant,
		"return \"s.\" + r.scope() + r.ID", "return \"s.\" + r.ID"}}},
	{name: "the tenant left out of a head's key", rule: "Tenants and roles", aim: []string{twoTenants}, edits: []edit{{jobsTenant,
		"return \"h.\" + r.scope() + r.ID", "return \"h.\" + r.ID"}}},
	{name: "the tenant left out of a result's key", rule: "Tenants and roles", aim: []string{twoTenants}, edits: []edit{{jobsTenant,
		"return \"r.s.\" + r.scope() + r.ID", "return \"r.s.\" + r.ID"}}},
	{name: "one slot, and one lane takes it always", rule: "Anonymous jobs", aim: []string{"both lanes of one slot"}, edits: []edit{{"internal/host/lanes.go",
		"	if l.pressed || l.single {", "	if false {"}}},
}

// Scenarios of the simulation.
const (
	repartitioned = "number of partitions changed by the operator"
	assignLost    = "bucket of assignments deleted"
	twoTenants    = "two tenants with the same sessions and ids"
	hostClock     = "clock of a host set"
	brokerClock   = "clock of the broker set"
)

const (
	hostRecord    = "internal/host/record.go"
	hostComplete  = "internal/host/complete.go"
	hostProcess   = "internal/host/process.go"
	hostServe     = "internal/host/serve.go"
	hostSession   = "internal/host/session.go"
	hostTenure    = "internal/host/tenure.go"
	hostPartition = "internal/host/partition.go"
	hostRun       = "internal/host/run.go"
	hostClockFile = "internal/host/clock.go"
	hostTwin      = "internal/host/twin.go"
	streamTake    = "internal/stream/take.go"
	streamLayout  = "internal/stream/layout.go"
	jobsTenant    = "internal/jobs/tenant.go"

	dispatchAssign = "internal/dispatch/assign.go"
)
