package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// ActionKind reports what is to be done.
type ActionKind uint8

// The actions. Those with an operation (Op) are answered by an event of the same Op.
const (
	RequestToken       ActionKind = iota // wait for a run token: TokenGranted
	ReturnToken                          // give the run token back
	Look                                 // read record, then attempt record, then the assignment, from the leader: Looked
	Own                                  // read the assignment again: Owned
	Compare                              // compare the clock with the broker's, unless that was done since Job came: Compared
	ReadAttempts                         // read an anonymous job's attempts: AttemptsRead
	Fetch                                // read Job's request again: Fetched
	ReadResult                           // read the result of Job's id: ResultRead
	CheckRoom                            // is there room in the broker's stores: RoomLooked
	Acquire                              // find a slot for Task: SlotGranted or SlotRefused, now or later
	Withdraw                             // no slot is needed any more for Op; Err is what the job gets, nil if another reason ended it
	Release                              // give the slot of Op back
	Park                                 // the session waits for the breaker that has refused it: TokenGranted when it is let through
	StopWaiting                          // neither for a run token nor for a breaker any more
	WriteAttemptRecord                   // write the attempt record, expecting Revision: Wrote
	WriteRecord                          // write the session's record, expecting Revision: Wrote
	Call                                 // run Task in the slot of Op: Answered
	CancelCall                           // give the call of Op up; Answered comes all the same
	WriteDeadLetter                      // store the dead letter, if Check only unless it is there: Wrote
	CreateResult                         // store the result of Job's id, expecting Revision: Wrote
	Reply                                // send the answer
	Ack                                  // remove Job's message
	Nak                                  // have Job's message delivered again after Delay
	KeepAlive                            // delay the redelivery of Job's message
	DropPayload                          // Job waits without its payload
	Forget                               // nothing of Job is needed any more
	Verdict                              // answer CancelRequested of Op
	GiveUp                               // the partition is not this epoch's: Owner reports whose
	Drop                                 // have all workers drop the session
	Count                                // the job ended with Err, after Task ran for Ran
	Block                                // the job cannot get on at Step, because of Cause
	Unblock                              // it can
	Full                                 // no room at Step: nothing else must start on this host
	Room                                 // there is
	Log                                  // Note, with Cause or Err
	actions
)

var actionNames = [actions]string{"request token", "return token", "look", "own", "compare", "read attempts", "fetch", "read result", "check room", "acquire", "withdraw", "release", "park",
	"stop waiting", "write attempt record", "write record", "call", "cancel call", "write dead letter", "create result", "reply", "ack", "nak", "keep alive", "drop payload", "forget",
	"verdict", "give up", "drop", "count", "block", "unblock", "full", "room", "log"}

func (k ActionKind) String() string { return actionNames[k] }

// Action is one thing to do.
type Action struct {
	Kind       ActionKind
	Op         uint32
	Job        *Job
	Task       *Task
	Body       []byte // of a write: the stored form; of a reply: its body
	Revision   uint64
	TTL        time.Duration
	Delay      time.Duration
	Check      bool // WriteDeadLetter; Look: compare the clock first, as Compare does
	DeadLetter *jobs.DeadLetter
	Reply      Address
	More       bool  // Reply: another one may follow
	Token      uint8 // ReturnToken: its kind
	Fresh      bool  // RequestToken: the session had no work a moment before Job came
	Verdict    jobs.CancelVerdict
	Owner      Owner
	Step       Step
	Err        *jobs.Error
	Output     *Output // Release: what the attempt brought, nil if none ran
	Retries    bool    // Release: another attempt follows
	Cause      error
	Ran        time.Duration
	Breaker    string // Park
	Changed    <-chan struct{}
	Note       Note // Log

	// Call: only if less than Lease has passed since Confirmed, by the machine's clock, right before the call goes out. Else it
	// is answered as stale: the job may have been run elsewhere.
	Confirmed clock.Mono
	Lease     time.Duration
}

// Note is the message of a log line.
type Note string

// The notes.
const (
	JobRetries              Note = "job_retries"
	JobWaits                Note = "job_waits_for_broker"
	BrokerAwaited           Note = "broker_awaited"
	DutyDelayed             Note = "duty_delayed"
	NotStarted              Note = "attempt_not_started"
	AttemptsLost            Note = "attempts_not_stored"
	RecordUnreadable        Note = "session_record_unreadable"
	AttemptRecordUnreadable Note = "attempt_record_unreadable"
	ResultUnreadable        Note = "result_unreadable"
	TriesUnreadable         Note = "attempts_unreadable"
)

// Address is where a reply goes, and its headers.
type Address struct {
	To, Type, Job string
	Attempt       int
}

// Step is where a job is blocked.
type Step string

// The steps.
const (
	StepNone          Step = ""
	StepPredecessor   Step = "predecessor"  // an earlier epoch works on the session: no fault, but a waiting caller is answered
	StepNewer         Step = "newer_record" // its session's record is of a newer version
	StepRecord        Step = "record"       // reading record, attempt record or request
	StepRoom          Step = "store_full"   // it is not started: nothing is run that could not be committed
	StepAttemptRecord Step = "head"
	StepCommit        Step = "commit"
	StepDeadLetter    Step = "dead_letter"
	StepResult        Step = "result"
)
