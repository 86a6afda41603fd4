package jobs

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// Failure is one failed attempt in a job's history. It has no traceback: that of the last attempt is in the job's reply.
type Failure struct {
	Attempt    int
	Category   Category
	Code       string
	Message    string // bounded
	Worker     string
	PythonType string
	At         time.Time // broker's clock
}

// Bounds of what a history keeps of one failure.
const (
	historyMessage = 512
	historyWord    = 128 // code, worker, type
)

// NewFailure notes an error.
func NewFailure(attempt int, e *Error, at time.Time) Failure {
	return Failure{Attempt: attempt, Category: e.Category, Code: cut(e.Code, historyWord), Message: cut(oneLine(e.Message, historyMessage), historyMessage),
		Worker: cut(e.Worker, historyWord), PythonType: cut(e.PythonType, historyWord), At: at}
}

// cut bounds text without leaving half a character, which no record may hold.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}

// failureOverhead is more than what a failure takes beside its texts, in every form that it is stored in.
const failureOverhead = 160

func (f Failure) size() int {
	return failureOverhead + len(f.Code) + len(f.Message) + len(f.Worker) + len(f.PythonType)
}

// BoundHistory keeps a history within this many bytes: first the earlier messages go, then the earliest failures. The last one
// always stays.
func BoundHistory(list []Failure, most int) []Failure {
	total := 0
	for _, f := range list {
		total += f.size()
	}
	for i := 0; total > most && i < len(list)-1; i++ {
		total -= len(list[i].Message)
		list[i].Message = ""
	}
	for total > most && len(list) > 1 {
		total -= list[0].size()
		list = list[1:]
	}
	return list
}

// appendHistory writes a history as two flat lists: the second holds what the first version did not have.
func appendHistory(dst []byte, list []Failure) []byte {
	dst = wire.AppendArray(dst, 4*len(list))
	for _, f := range list {
		dst = wire.AppendUint(dst, uint64(f.Attempt))
		dst = wire.AppendStr(wire.AppendStr(wire.AppendStr(dst, string(f.Category)), f.Code), f.Message)
	}
	return dst
}

func appendHistoryMore(dst []byte, list []Failure) []byte {
	dst = wire.AppendArray(dst, 3*len(list))
	for _, f := range list {
		dst = wire.AppendStr(wire.AppendStr(dst, f.Worker), f.PythonType)
		dst = wire.AppendInt(dst, millis(f.At))
	}
	return dst
}

func (in *fields) history() (list []Failure) {
	for range in.array() / 4 {
		list = append(list, Failure{Attempt: int(in.uint()), Category: Category(in.str()), Code: in.str(), Message: in.str()})
	}
	return list
}

func (in *fields) historyMore(list []Failure) {
	for i := range in.array() / 3 {
		worker, kind, at := in.str(), in.str(), in.int()
		if i < len(list) {
			list[i].Worker, list[i].PythonType, list[i].At = worker, kind, fromMillis(at)
		}
	}
}

// mostAttempts bounds what is counted: deliveries of a job without session count as attempts, too.
const mostAttempts = 1 << 30

func (in *fields) attempt() int {
	n := in.uint()
	if n > mostAttempts {
		in.keep(fmt.Errorf("the attempt must be at most %d, got %d", mostAttempts, n))
	}
	return int(min(n, mostAttempts))
}

// mostDelay bounds what is waited for: a provider's wish, or a circuit breaker that may be open for an hour.
const mostDelay = 2 * time.Hour

func (in *fields) delay() time.Duration {
	ms := in.int()
	if ms < 0 || ms > mostDelay.Milliseconds() {
		in.keep(fmt.Errorf("a delay must be 0 to %d ms, got %d", mostDelay.Milliseconds(), ms))
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
