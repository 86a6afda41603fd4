package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// Bounds of a feed. A reader costs no memory of its own: all read what the feed keeps.
const (
	feedBytes = 128 << 10   // of the latest partial output
	feedKept  = time.Minute // after the end, for clients whose connection broke
)

// position is where a partial output stands: the n-th of its attempt.
type position struct{ attempt, n int }

func (p position) after(q position) bool {
	return p.attempt > q.attempt || p.attempt == q.attempt && p.n > q.n
}

func (p position) String() string { return strconv.Itoa(p.attempt) + "." + strconv.Itoa(p.n) }

// before is the position of a reader who has seen nothing.
var before = position{0, -1}

// parsePosition reads the id of an event.
func parsePosition(text string) (position, bool) {
	attempt, n, _ := strings.Cut(text, ".")
	a, err1 := strconv.ParseUint(attempt, 10, 31)
	i, err2 := strconv.ParseUint(n, 10, 31)
	return position{int(a), int(i)}, err1 == nil && err2 == nil
}

type piece struct {
	at   position
	text []byte // the event as it is sent
}

// feed is the output of a streamed call: its latest partial output, and how it ended.
type feed struct {
	key     feedKey
	request [sha256.Size]byte // what was requested

	mu      sync.Mutex
	pieces  []piece
	dropped int // pieces that were kept before
	bytes   int
	ended   bool
	reply   []byte
	problem *problem
	changed chan struct{} // closed with the next change
}

// feedKey names a feed: ids are unique within a tenant alone.
type feedKey struct {
	tenant string
	job    dspex.JobRef
}

func newFeed(key feedKey, request [sha256.Size]byte) *feed {
	return &feed{key: key, request: request, changed: make(chan struct{})}
}

// add keeps a partial output, and drops the earliest ones beyond the bound: the reply has all.
func (f *feed) add(c dspex.Chunk) {
	at := position{c.Attempt, c.N}
	text := event(at.String(), "partial", compact(partial{c.Attempt, c.N, c.Field, c.Text, c.Call, c.Status}))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pieces, f.bytes = append(f.pieces, piece{at, text}), f.bytes+len(text)
	for f.bytes > feedBytes && len(f.pieces) > 1 {
		f.bytes -= len(f.pieces[0].text)
		f.pieces[0], f.pieces = piece{}, f.pieces[1:]
		f.dropped++
	}
	f.wake()
}

func (f *feed) end(reply []byte, p *problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended, f.reply, f.problem = true, reply, p
	f.wake()
}

func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// seek returns where a reader goes on who has seen all up to a position.
func (f *feed) seek(seen position) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.pieces {
		if p.at.after(seen) {
			return f.dropped + i
		}
	}
	return f.dropped + len(f.pieces)
}

// read returns what is there from a place on, the place behind it, whether that is the end, and a channel that is closed when there is more.
func (f *feed) read(from int) (texts [][]byte, next int, ended bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pieces[min(max(from-f.dropped, 0), len(f.pieces)):] {
		texts = append(texts, p.text)
	}
	return texts, f.dropped + len(f.pieces), f.ended, f.changed
}

// last is the event that ends a stream.
func (f *feed) last() []byte {
	if f.problem != nil {
		return event(endID, "problem", compact(f.problem))
	}
	return event(endID, "reply", f.reply)
}

// endID is the id of the last event, whichever it is.
const endID = "end"

// partial is the data of an event with partial output: contract/job.md, "Reply".
type partial struct {
	Attempt int    `json:"attempt"`
	N       int    `json:"n"`
	Field   string `json:"field,omitempty"`
	Chunk   string `json:"chunk,omitempty"`
	Call    int    `json:"call,omitempty"`
	Status  string `json:"status,omitempty"`
}

// compact writes a value as JSON on one line.
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // texts and numbers
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// event is one event of a stream. Its data has no line ends: it is compact JSON.
func event(id, name string, data []byte) []byte {
	return fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", id, name, data)
}

// feeds are those of the calls that were streamed lately.
type feeds struct {
	most int
	ctx  context.Context // ends with the gateway
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu  sync.Mutex
	all map[feedKey]*feed
}

func newFeeds(most int) *feeds {
	ctx, stop := context.WithCancel(context.Background())
	return &feeds{most: most, ctx: ctx, stop: stop, all: map[feedKey]*feed{}}
}

// start returns the feed of a call: the one that the same request has already, or a new one that takes the output of call.
func (s *feeds) start(key feedKey, request [sha256.Size]byte, call func(context.Context) iter.Seq2[dspex.Chunk, error]) (*feed, *problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.all[key]
	if known != nil && known.request == request {
		return known, nil
	}
	if len(s.all) >= s.most {
		return nil, busy("the gateway has reached its limit of streams")
	}
	f := newFeed(key, request)
	if known == nil { // else the pool refuses this one: another request has the id
		s.all[key] = f
	}
	s.wg.Go(func() {
		f.take(call(s.ctx))
		s.keep(f)
	})
	return f, nil
}

// keep drops the feed after a while.
func (s *feeds) keep(f *feed) {
	wait := time.NewTimer(feedKept)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[f.key] == f {
		delete(s.all, f.key)
	}
}

func (s *feeds) find(key feedKey) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[key]
}

func (s *feeds) close() {
	s.stop()
	s.wg.Wait()
}

// take reads a call to its end.
func (f *feed) take(chunks iter.Seq2[dspex.Chunk, error]) {
	for chunk, err := range chunks {
		switch {
		case err != nil:
			f.end(nil, asProblem(err, f.key.job))
			return
		case chunk.Reply != nil:
			f.end(oneLine(chunk.Reply.Raw), nil)
			return
		default:
			f.add(chunk)
		}
	}
	f.end(nil, asProblem(context.Canceled, f.key.job)) // a stream ends with a reply or an error
}

func oneLine(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return compact(refused(502, contract.CodeBadFrame, "", "", "the reply is no JSON"))
	}
	return b.Bytes()
}
