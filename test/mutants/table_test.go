package mutants

// mutants are the rules, each left out once. The bugs that the simulation found are among them.
var mutants = []mutant{
	{name: "nothing left out", survives: "else the other verdicts mean nothing"},
	{name: "ack before commit", rule: "the straight line", edits: []edit{{hostRecord,
		"	if err := s.commit(ctx, t, &next); err != nil {\n		return err\n	}\n	h.count",
		"	_ = h.ack(t.job)\n	if err := s.commit(ctx, t, &next); err != nil {\n		return err\n	}\n	h.count"}}},
	{name: "ack before the result is confirmed", rule: "the straight line", edits: []edit{{hostComplete,
		"	if err := <-stored; err != nil {\n		return err\n	}\n	return h.ack(j)\n}\n\nvar",
		"	return h.ack(j)\n}\n\nvar"}}},
	{name: "no compare-and-set on the record", rule: "1", edits: []edit{{hostRecord,
		"h.records.PutSync(jobs.RecordKey(s.id), next.Append(nil), s.recRev, s.ttl(left))",
		"h.records.PutSync(jobs.RecordKey(s.id), next.Append(nil), func() uint64 { e, _ := h.records.Get(ctx, jobs.RecordKey(s.id)); return e.Revision }(), s.ttl(left))"}}},
	{name: "no compare-and-set on the head", rule: "3", edits: []edit{{hostRecord,
		"h.records.PutSync(key, body, s.headRev, s.ttl(left))",
		"h.records.PutSync(key, body, func() uint64 { e, _ := h.records.Get(ctx, key); return e.Revision }(), s.ttl(left))"}}},
	{name: "last sequence ignored", rule: "2", edits: []edit{
		{hostProcess, "	if j.seq <= s.record.LastSequence {\n", "	if false {\n"},
		{hostRecord, " || s.record.LastSequence >= t.seq {", " {"}}},
	{name: "fenced by nobody after a lost compare-and-set", rule: "3", edits: []edit{{hostRecord,
		"	if err := s.p.mine(ctx); err != nil {\n		return false, err\n	}\n	if cur != nil {\n		if _, ended",
		"	if cur != nil {\n		if _, ended"}}},
	{name: "a lost compare-and-set is written over", rule: "3", edits: []edit{{hostRecord,
		"			return false, errVoid\n		}\n		s.record.Ended = cur.Ended",
		"		}\n		s.record.Ended = cur.Ended"}}},
	{name: "own write taken for another's", rule: "3", edits: []edit{{hostRecord,
		"if cur != nil && cur.Last != nil && cur.Last.Epoch == s.p.epoch && cur.Last.Sequence == t.seq && cur.Last.Attempt == t.attempt {",
		"if false {"}},
		survives: "the attempt is void, and the job is completed from the record: only the work of an attempt is lost"},
	{name: "a session loaded by whoever holds it", rule: "7", edits: []edit{{hostRecord,
		"	if err := s.p.mine(ctx); err != nil {\n		return err\n	}\n	if rec.Revision", "	if rec.Revision"}}},
	{name: "late write without reading again", rule: "7", edits: []edit{{hostRecord,
		"s.known && time.Since(s.loaded) <= s.ttl(0)/2 && !s.lapsed()", "s.known && !s.lapsed()"}}},
	{name: "what the broker let wait is written as it was", rule: "7", edits: []edit{{hostRecord,
		"			if err := s.still(ctx, t); err != nil {\n				return err\n			}\n			next.Ended", "			next.Ended"}}},
	{name: "no look for a result before the first start", rule: "4", edits: []edit{{hostProcess,
		"if t.env.Chosen || j.stored.Before(s.since) {", "if false {"}}},
	{name: "no look for a result of chosen ids", rule: "4", edits: []edit{{hostProcess,
		"if t.env.Chosen || j.stored.Before(s.since) {", "if j.stored.Before(s.since) {"}}},
	{name: "any payload is a repeat", rule: "4", edits: []edit{{"internal/host/repeat.go",
		"case r.Hash != t.req.Hash:", "case false:"}}},
	{name: "early end acknowledged without a result", rule: "5", edits: []edit{
		{hostServe, "	if err := s.finish(ctx, t, kind); err != nil {\n		return err\n	}\n	s.wasAnswered(j)", "	s.wasAnswered(j)"},
		{hostProcess, "		if !j.answered {\n", "		if false {\n"}}},
	{name: "an early end that is not in the record", rule: "5", edits: []edit{{hostServe,
		"} else if err := s.writeEnd(ctx, j.seq, kind); err != nil {", "} else if err := error(nil); err != nil {"}}},
	{name: "an early end over another outcome", rule: "4", edits: []edit{{hostComplete,
		"	if done, err := s.answerStored(ctx, t); done || err != nil {\n		return err\n	}\n	e := ", "	e := "}}},
	{name: "an early end of the job that runs", rule: "5", edits: []edit{{hostServe, "	if s.runs(j) {", "	if false {"}}},
	{name: "a repeat's deadline ends the first submit", rule: "5", edits: []edit{{hostSession,
		"return !j.due.IsZero() && !j.repeat", "return !j.due.IsZero()"}}},
	{name: "cleanup forgets early ends", rule: "6", edits: []edit{{hostRecord,
		"next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()",
		"next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()\n			if empties(t.req.Command) {\n				next.Ended = nil\n			}\n			_ = 0"}}},
	{name: "cleanup deletes the record", rule: "6", edits: []edit{{hostRecord,
		"	h.count(out.ran, e)\n",
		"	if e == nil && empties(t.req.Command) {\n		_, _ = h.records.Delete(jobs.RecordKey(s.id), s.recRev)\n		s.known = false\n	}\n	h.count(out.ran, e)\n"}}},
	{name: "attempts forgotten at a take-over, as NumDelivered is", rule: "10", edits: []edit{{hostProcess,
		"	t.attempt, t.failures = hd.Attempt, hd.Failures\n	if hd.NotBefore", "	if hd.NotBefore"}}},
	{name: "a crash is no attempt", rule: "10", edits: []edit{{hostProcess,
		"		s.p.h.note(t, crashed(hd.Attempt))\n		return nil\n", "		t.attempt--\n		return nil\n"}}},
	{name: "the head is written after the start", rule: "10", edits: []edit{
		{hostProcess, "	if err := s.writeHead(ctx, t, 0); err != nil {\n		slot.Release()\n		return false, 0, err\n	}\n", ""},
		{hostProcess, "	out := s.run(ctx, t, slot)",
			"	out := s.run(ctx, t, slot)\n	if err := s.writeHead(ctx, t, 0); err != nil {\n		slot.Release()\n		return false, 0, err\n	}"}}},
	{name: "gate left open during backoff", rule: "6: retries", edits: []edit{{hostProcess,
		"	if err := s.pause(ctx, t, t.again, delay+time.Second); err != nil {", "	if err := errLeaving; err != nil {"}}},
	{name: "a retry starts with any redelivery", rule: "10", edits: []edit{{hostProcess,
		"left > 0 && !t.isCancelled() {", "false && left > 0 {"}}},
	{name: "no wait for what is left of a delay", rule: "10", edits: []edit{{hostProcess,
		"left := min(hd.NotBefore.Sub(s.p.h.now()), hd.Delay); left > 0 {", "left := time.Duration(0); left > 0 {"}}},
	{name: "the dead letter is not repaired", rule: "1", edits: []edit{{hostComplete,
		"		return s.complete(ctx, j, o, true)\n", "		unburied := *o\n		unburied.Buried = false\n		return s.complete(ctx, j, &unburied, true)\n"}}},
	{name: "default reconnect buffer", rule: "ConnectOptions", edits: []edit{{"internal/stream/connect.go",
		"nats.ReconnectBufSize(-1), ", ""}}},
	{name: "a host leaves a partition that still names it", rule: "5: ownership", edits: []edit{{hostTenure,
		"		if a.owner.Incarnation != h.incarnation || epoch <= used {\n", "		if epoch <= used {\n			wait(t.ctx, a.changed, 0)\n			continue\n		}\n		if false {\n"}}},
	{name: "no look at the assignment before a consumer is deleted or created", rule: "5: ownership", edits: []edit{
		{streamTake, "		if err := c.mine(ctx, want); err != nil {\n			return nil, err\n		}\n", ""},
		{streamTake, "		if err := c.mine(ctx, want); err != nil {\n			return err\n		}\n", ""}}},
	{name: "the same epoch again after the consumer was lost", rule: "5: ownership", edits: []edit{{hostTenure,
		"a.owner.Incarnation != h.incarnation || epoch <= used {", "a.owner.Incarnation != h.incarnation {"}}},
	{name: "delivery behind a gap kept", rule: "5: reconnects", edits: []edit{{hostPartition,
		"	gap := !p.resetting && sequence != p.next\n", "	gap := false\n"}}},
	{name: "no reset after a reconnect", rule: "5: reconnects", edits: []edit{{hostPartition,
		"		case <-connected:\n			p.reset()\n", "		case <-connected:\n"}}},
	{name: "no second reset before the first one brought a job", rule: "5: reconnects", edits: []edit{{hostPartition,
		"	if p.closing {\n		return\n	}\n	p.resetting, p.again", "	if p.closing || p.resetting {\n		return\n	}\n	p.resetting, p.again"}}},
	{name: "a worker's state of any version counts as warm", rule: "4: affinity", edits: []edit{{hostRun,
		"case s.worker == slot.WorkerID() && s.version == s.record.StateVersion:", "case s.worker == slot.WorkerID():"},
		{hostRecord, "		s.worker, s.version = 0, 0\n", ""}}},
	{name: "a waiting job lets its session grow idle", rule: "session states", edits: []edit{{hostRecord,
		"		now = s.running.stored\n", ""}}},
	{name: "a twin is not noticed", rule: "5: ownership", edits: []edit{{hostTwin,
		"		lose(fmt.Errorf(", "		_ = (fmt.Errorf("}}},
	{name: "a job that ends between two looks is unknown", rule: "jobs.get", edits: []edit{{"internal/dispatch/lookup.go",
		"		if bad != nil && bad.Code == jobs.CodeJobUnknown { // it may", "		if false { // it may"}}},
	{name: "one slot, and one lane takes it always", rule: "anonymous jobs", edits: []edit{{"internal/host/lanes.go",
		"	if n > 0 && h.lanes.single {", "	if false {"}}},
}

const (
	hostRecord    = "internal/host/record.go"
	hostComplete  = "internal/host/complete.go"
	hostProcess   = "internal/host/process.go"
	hostServe     = "internal/host/serve.go"
	hostSession   = "internal/host/session.go"
	hostTenure    = "internal/host/tenure.go"
	hostPartition = "internal/host/partition.go"
	hostRun       = "internal/host/run.go"
	hostTwin      = "internal/host/twin.go"
	streamTake    = "internal/stream/take.go"
)
