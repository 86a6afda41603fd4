package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/frame"
)

// line leads clients to the broker, also to the one that comes after a restart.
type line struct {
	srv   atomic.Pointer[server.Server]
	spoil atomic.Pointer[func([]byte)] // may spoil what arrives; it runs before the client sees it
}

// wired is a connection over a line.
type wired struct {
	net.Conn
	line *line
}

func (w wired) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if spoil := w.line.spoil.Load(); spoil != nil && n > 0 {
		(*spoil)(b[:n])
	}
	return n, err
}

var errDown = errors.New("the broker is down")

func (l *line) InProcessConn() (net.Conn, error) {
	s := l.srv.Load()
	if s == nil {
		return nil, errDown // at once: nats.go dials under its lock, and who waits for a lock stops fake time
	}
	c, err := s.InProcessConn()
	return wired{c, l}, err
}

// inFakeTime runs a test with broker, dispatcher and host in a bubble, where waits take no time and gaps are exact.
func inFakeTime(t *testing.T, test func(t *testing.T, y *system)) {
	t.Helper()
	emptyPools() // of other tests, and for them
	defer emptyPools()
	ats.Register() // before the bubble: its goroutine would keep fake time from passing
	defer ats.Unregister()
	dir, today := t.TempDir(), time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // a bubble starts in the year 2000, the broker's files have today's date
		y := &system{t: t, dir: dir, srv: broker(t, dir), pool: newPool(8), line: &line{}}
		y.line.srv.Store(y.srv)
		y.nc = y.connect()
		y.run("h1")
		test(t, y)
		y.close()
	})
}

// emptyPools drops what nats.go keeps in pools: its timers may not lead from one bubble to the next.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}

// restartBroker ends the broker and starts another one on the same directory.
func (y *system) restartBroker() {
	y.line.srv.Store(nil)
	y.srv.Shutdown()
	y.srv.WaitForShutdown()
	y.srv = broker(y.t, y.dir)
	y.line.srv.Store(y.srv)
	for !y.nc.IsConnected() {
		time.Sleep(100 * time.Millisecond)
	}
}

// pass lets time pass in the bubble.
func (y *system) pass(d time.Duration) { time.Sleep(d) }

// script sets what the workers do; a hook that does not answer leaves it to the pool.
func (y *system) script(hook func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool)) {
	y.pool.mu.Lock()
	defer y.pool.mu.Unlock()
	y.pool.hook = hook
}

// end waits for a job's end.
func (y *system) end(session, job string) end {
	y.t.Helper()
	ask := fmt.Sprintf(`{"session":%q,"job":%q,"wait_ms":600000}`, session, job)
	if session == "" {
		ask = fmt.Sprintf(`{"job":%q,"wait_ms":600000}`, job)
	}
	r := y.callFor("dspex.rpc.jobs.get", "", ask, 11*time.Minute)
	var o end
	if err := json.Unmarshal(r.Result, &o); err != nil {
		y.t.Fatalf("%s: %+v %v", job, r, err)
	}
	return o
}

type end struct {
	Outcome  string
	Attempts int
	Reply    reply
}

// store publishes a job.
func (y *system) store(subject, job, body string) {
	y.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{"Dspex-Job": {job}}}
	if _, err := y.nc.RequestMsg(m, 5*time.Second); err != nil {
		y.t.Fatalf("%s: %v", subject, err)
	}
}
