package batch

// Event is what has happened.
type Event interface{ event() }

// Loaded answers Open: the jobs of a chunk, the outcomes that are stored with the batch (Ended), and the results that are there beside
// (Seen). Parts is the number of the next part.
type Loaded struct {
	First int
	Lines []Line
	Ended []End
	Seen  []End
	Parts int
}

// NotLoaded answers Open when the chunk could not be read. Gone: the store does not hold it any more.
type NotLoaded struct {
	First int
	Gone  bool
}

// Fed answers Feed: the broker holds the job.
type Fed struct{ Index int }

// NotFed answers Feed: the broker does not hold it, or whether it does is unknown.
type NotFed struct{ Index int }

// Looked answers Look, with the outcomes that were there.
type Looked struct{ Ended []End }

// Replied reports a reply of the job's host, which may be lost, late or repeated, and answers nothing. Without an outcome: there may be one.
type Replied struct {
	Index int
	Ended *End
}

// Stopped answers Cancel. Without an outcome: the broker does not hold the job, and nobody runs it.
type Stopped struct {
	Index int
	Ended *End
}

// NotStopped answers Cancel when it is not known what became of the job.
type NotStopped struct{ Index int }

// Saved answers Save.
type Saved struct{ First, Part int }

// NotSaved answers Save. Taken: a part of that number is there already.
type NotSaved struct {
	First, Part int
	Taken       bool
}

// Written answers Write.
type Written struct{}

// NotWritten answers Write when nothing was written.
type NotWritten struct{}

// Changed has the record as it is stored now: somebody else has written it, or whether a Write was stored is in doubt. Nil: it is gone.
type Changed struct{ Record *Record }

// Announced answers Announce.
type Announced struct{}

// Lane bounds how many of the jobs without session may be at the broker at a time; 0: the window alone does. It answers nothing.
type Lane struct{ Most int }

// Tick reports that a moment that Next named has come.
type Tick struct{}

func (Loaded) event() {}

func (NotLoaded) event() {}

func (Fed) event() {}

func (NotFed) event() {}

func (Looked) event() {}

func (Replied) event() {}

func (Stopped) event() {}

func (NotStopped) event() {}

func (Saved) event() {}

func (NotSaved) event() {}

func (Written) event() {}

func (NotWritten) event() {}

func (Changed) event() {}

func (Announced) event() {}

func (Lane) event() {}

func (Tick) event() {}

// Action is something to do. Each is answered by one event, unless its comment states otherwise.
type Action interface{ action() }

// Open reads the jobs of a chunk and its parts.
type Open struct{ First int }

// Feed publishes a job under its own id.
type Feed struct{ Index int }

// Look reads the results of these jobs.
type Look struct{ Indexes []int }

// Cancel ends a job that may be at the broker or run.
type Cancel struct{ Index int }

// Save creates a part: the outcomes of these jobs.
type Save struct {
	First, Part int
	Ended       []End
}

// Write stores the record, if it is still the one that was read or written last.
type Write struct{ Record Record }

// Announce publishes the end of the batch. It may be published twice.
type Announce struct{ Record Record }

// Stop reports that nothing more is to do here: the batch has ended, is gone, or another leader serves it. No event answers it.
type Stop struct{}

func (Open) action() {}

func (Feed) action() {}

func (Look) action() {}

func (Cancel) action() {}

func (Save) action() {}

func (Write) action() {}

func (Announce) action() {}

func (Stop) action() {}
