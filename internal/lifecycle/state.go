package lifecycle

// State is what the job at the head of the queue is at. Only that job has one; those behind it wait, and can end early (early.go).
type State uint8

// The states. In those that wait a core needs nothing but memory and a timer: new reasons to wait (a person's approval, a rate
// limit, a budget) belong beside AwaitBreaker.
const (
	Idle             State = iota // no job
	AwaitPredecessor              // an earlier epoch still works on the session
	AwaitToken                    // for a run token, of which a host has a bounded number
	Loading                       // record and attempt record are being read
	Fetching                      // the request is being read again
	Checking                      // whether the job's id has a result already
	Comparing                     // the clock is being compared with the broker's, before a deadline is judged
	Paused                        // the broker could not be read: again in a second
	AwaitNewer                    // the record was written by a newer version, which goes on with the session
	AwaitRoom                     // for room in the broker's store
	AwaitBreaker                  // for a circuit breaker
	AwaitSlot                     // for a slot of a worker
	Beginning                     // the attempt is being written down
	Confirming                    // whether the partition is still this epoch's, right before a start
	Running                       // a worker has the job
	Postponing                    // the retry is being written down
	AwaitRetry                    // for the retry's time
	Fencing                       // the job ends without an attempt of this epoch: no other epoch must begin one any more
	Committing                    // the outcome is being written into the record
	DeadLettering                 // the dead letter is being stored
	Storing                       // the result is being stored
	states
)

var stateNames = [states]string{"idle", "await_predecessor", "await_token", "loading", "fetching", "checking", "comparing", "paused", "await_newer", "await_room",
	"await_breaker", "await_slot", "beginning", "confirming", "running", "postponing", "await_retry", "fencing", "committing", "dead_lettering", "storing"}

func (s State) String() string { return stateNames[s] }

// started reports whether the end of an epoch lets the job go on: its attempt is written down, or it is decided. The record
// judges what becomes of it.
func (s State) started() bool {
	switch s {
	case Beginning, Confirming, Running, Postponing, Fencing, Committing, DeadLettering, Storing:
		return true
	}
	return false
}

// handler takes an event.
type handler func(*Core, *Event)

// row is what a state makes of the events that are its own. Deliveries, cancellations, the end of the epoch and the deadlines
// of waiting jobs are the same in all states (core.go).
type row struct {
	resume handler         // does what the state is about: on entering, after a pause, when the record is free again
	on     [events]handler // nil: the event comes too late, or is not for this state
	next   []State         // legal next states, Idle always
}

var table [states]row

// of has a part of the core take events.
func of[P any](part func(*Core) P, takes func(P, *Core, *Event)) handler {
	return func(c *Core, ev *Event) { takes(part(c), c, ev) }
}

func init() { //nolint:gochecknoinits // not a literal: the handlers refer to the table
	theQueue := func(c *Core) *queue { return &c.queue }
	thePreparation := func(c *Core) *preparation { return &c.prep }
	theCheckout := func(c *Core) *checkout { return &c.checkout }
	theAttempt := func(c *Core) *attempt { return &c.attempt }
	theJournal := func(c *Core) *sessionJournal { return &c.session.journal }
	theCommit := func(c *Core) *commit { return &c.session.commit }
	theEnding := func(c *Core) *ending { return &c.ending }

	prepare := of(thePreparation, (*preparation).prepare)
	writeAttempt := handler(func(c *Core, _ *Event) { c.journal.writeAttempt(c) })
	attemptWritten := handler(func(c *Core, ev *Event) { c.journal.attemptWritten(c, ev) })
	attemptLooked := of(theJournal, (*sessionJournal).attemptLooked)
	prepared := []State{Loading, Fetching, Checking, Comparing, Confirming, Paused, AwaitNewer, AwaitRoom, AwaitBreaker, AwaitSlot, AwaitRetry, Fencing, Committing, DeadLettering, Storing, Running}
	attempts := []State{AwaitSlot, Comparing, Confirming, AwaitRoom, AwaitBreaker, Fencing, Committing, DeadLettering, Storing, Loading, Paused, AwaitNewer, AwaitRetry, Postponing, Fetching, Checking}
	table = [states]row{
		Idle:             {next: []State{AwaitPredecessor, AwaitToken, Loading, Fetching, Checking, Comparing, Fencing, Committing, AwaitSlot, DeadLettering, Storing, AwaitRetry}},
		AwaitPredecessor: {on: [events]handler{PredecessorGone: of(theQueue, (*queue).start)}, next: []State{AwaitToken}},
		AwaitToken:       {on: [events]handler{TokenGranted: of(theQueue, (*queue).granted)}, next: prepared},
		Loading:          {resume: prepare, on: [events]handler{Looked: of(thePreparation, (*preparation).loaded), AttemptsRead: of(func(c *Core) *results { return c.ledger.(*results) }, (*results).attemptsRead)}, next: append(prepared, Postponing)},
		Fetching:         {resume: prepare, on: [events]handler{Fetched: of(thePreparation, (*preparation).fetched)}, next: prepared},
		Checking:         {resume: prepare, on: [events]handler{ResultRead: of(thePreparation, (*preparation).checked)}, next: prepared},
		Comparing:        {resume: prepare, on: [events]handler{Compared: of(theAttempt, (*attempt).compared)}, next: append(prepared, Postponing)},
		Paused:           {resume: prepare, next: prepared},
		AwaitNewer:       {resume: prepare, next: prepared},
		AwaitRoom:        {resume: of(theCheckout, (*checkout).askRoom), on: [events]handler{RoomLooked: of(theCheckout, (*checkout).roomLooked)}, next: attempts},
		AwaitBreaker:     {resume: of(theCheckout, (*checkout).unheld), on: [events]handler{TokenGranted: of(theCheckout, (*checkout).admitted)}, next: append(attempts, prepared...)},
		AwaitSlot: {resume: of(theCheckout, (*checkout).outwaited), on: [events]handler{SlotGranted: of(theCheckout, (*checkout).granted), SlotRefused: of(theCheckout, (*checkout).refused)},
			next: append(attempts, Beginning, Running)},
		Beginning:     {resume: writeAttempt, on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked}, next: append(attempts, Running)},
		Confirming:    {resume: of(theAttempt, (*attempt).confirm), on: [events]handler{Owned: of(theAttempt, (*attempt).owned)}, next: append(attempts, Running)},
		Running:       {resume: of(theAttempt, (*attempt).overran), on: [events]handler{Answered: of(theAttempt, (*attempt).answered)}, next: attempts},
		Postponing:    {resume: writeAttempt, on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked, AttemptsRead: of(func(c *Core) *resultsJournal { return c.journal.(*resultsJournal) }, (*resultsJournal).attemptsCompared)}, next: attempts},
		AwaitRetry:    {resume: of(func(c *Core) *retry { return &c.retry }, (*retry).resume), next: attempts},
		Fencing:       {resume: of(theJournal, (*sessionJournal).writeFence), on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked}, next: append(prepared, Committing)},
		Committing:    {resume: of(theCommit, (*commit).write), on: [events]handler{Wrote: of(theCommit, (*commit).written), Looked: of(theCommit, (*commit).looked)}, next: prepared},
		DeadLettering: {resume: of(theEnding, (*ending).writeLetter), on: [events]handler{Wrote: of(theEnding, (*ending).letterWritten), ResultRead: of(theEnding, (*ending).letterNeeded)}, next: []State{Storing}},
		Storing:       {resume: of(theEnding, (*ending).storeResult), on: [events]handler{Wrote: of(theEnding, (*ending).resultWritten), ResultRead: of(theEnding, (*ending).resultFound)}, next: []State{Storing}},
	}
}
