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

func init() { //nolint:gochecknoinits // not a literal: the handlers refer to the table
	prepared := []State{Loading, Fetching, Checking, Comparing, Confirming, Paused, AwaitNewer, AwaitRoom, AwaitBreaker, AwaitSlot, AwaitRetry, Fencing, Committing, DeadLettering, Storing, Running}
	attempts := []State{AwaitSlot, Comparing, Confirming, AwaitRoom, AwaitBreaker, Fencing, Committing, DeadLettering, Storing, Loading, Paused, AwaitNewer, AwaitRetry, Postponing, Fetching, Checking}
	table = [states]row{
		Idle:             {next: []State{AwaitPredecessor, AwaitToken, Loading, Fetching, Checking, Comparing, Fencing, Committing, AwaitSlot, DeadLettering, Storing, AwaitRetry}},
		AwaitPredecessor: {on: [events]handler{PredecessorGone: (*Core).start}, next: []State{AwaitToken}},
		AwaitToken:       {on: [events]handler{TokenGranted: (*Core).tokenGranted}, next: prepared},
		Loading:          {resume: (*Core).prepare, on: [events]handler{Looked: (*Core).loaded, AttemptsRead: (*Core).attemptsRead}, next: append(prepared, Postponing)},
		Fetching:         {resume: (*Core).prepare, on: [events]handler{Fetched: (*Core).fetched}, next: prepared},
		Checking:         {resume: (*Core).prepare, on: [events]handler{ResultRead: (*Core).checked}, next: prepared},
		Comparing:        {resume: (*Core).prepare, on: [events]handler{Compared: (*Core).compared}, next: append(prepared, Postponing)},
		Paused:           {resume: (*Core).prepare, next: prepared},
		AwaitNewer:       {resume: (*Core).prepare, next: prepared},
		AwaitRoom:        {resume: (*Core).askRoom, on: [events]handler{RoomLooked: (*Core).roomLooked}, next: attempts},
		AwaitBreaker:     {resume: (*Core).unheld, on: [events]handler{TokenGranted: (*Core).admitted}, next: append(attempts, prepared...)},
		AwaitSlot: {resume: (*Core).outwaited, on: [events]handler{SlotGranted: (*Core).slotGranted, SlotRefused: (*Core).slotRefused},
			next: append(attempts, Beginning, Running)},
		Beginning:     {resume: (*Core).writeAttempt, on: [events]handler{Wrote: (*Core).attemptWritten, Looked: (*Core).attemptLooked}, next: append(attempts, Running)},
		Confirming:    {resume: (*Core).confirm, on: [events]handler{Owned: (*Core).owned}, next: append(attempts, Running)},
		Running:       {resume: (*Core).overran, on: [events]handler{Answered: (*Core).answered}, next: attempts},
		Postponing:    {resume: (*Core).writeAttempt, on: [events]handler{Wrote: (*Core).attemptWritten, Looked: (*Core).attemptLooked, AttemptsRead: (*Core).attemptsCompared}, next: attempts},
		AwaitRetry:    {resume: (*Core).retryDue, next: attempts},
		Fencing:       {resume: (*Core).writeFence, on: [events]handler{Wrote: (*Core).attemptWritten, Looked: (*Core).attemptLooked}, next: append(prepared, Committing)},
		Committing:    {resume: (*Core).writeOutcome, on: [events]handler{Wrote: (*Core).outcomeWritten, Looked: (*Core).outcomeLooked}, next: prepared},
		DeadLettering: {resume: (*Core).writeLetter, on: [events]handler{Wrote: (*Core).letterWritten, ResultRead: (*Core).letterNeeded}, next: []State{Storing}},
		Storing:       {resume: (*Core).storeResult, on: [events]handler{Wrote: (*Core).resultWritten, ResultRead: (*Core).resultFound}, next: []State{Storing}},
	}
}
