package echolm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ask sends a request to the handler under ctx and reports whether the connection was dropped.
func (s *Server) ask(ctx context.Context, path, body string) (w *httptest.ResponseRecorder, dropped bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != http.ErrAbortHandler {
				panic(r)
			}
			dropped = true
		}
	}()
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)).WithContext(ctx))
	return w, false
}

func TestDelaysAreThoseOfTheScript(t *testing.T) {
	stream := strings.TrimSuffix(hello, "}") + `, "stream": true}`
	for _, c := range []struct {
		script, body string
		want         time.Duration
	}{
		{"", hello, 0},
		{"lat=200", hello, 200 * time.Millisecond},
		{"lat=200,status=500", hello, 200 * time.Millisecond},
		{"lat=200,tdelay=50", hello, 300 * time.Millisecond}, // two deltas
		{"lat=200,tdelay=50", stream, 300 * time.Millisecond},
		{"lat=200,cut=accept", hello, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, begin := newServer(Config{}), time.Now()
			s.ask(t.Context(), "/s/"+c.script+"/v1/chat/completions", c.body)
			if got := time.Since(begin); got != c.want {
				t.Errorf("%q: took %v, want %v", c.script, got, c.want)
			}
		})
	}
}

func TestManySlowRequestsWaitAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users = 2000
		s, begin := newServer(Config{Script: Script{Latency: time.Second}}), time.Now()
		var all sync.WaitGroup
		for range users {
			all.Go(func() {
				if w, _ := s.ask(t.Context(), "/v1/chat/completions", hello); w.Code != 200 {
					t.Error(w.Code)
				}
			})
		}
		all.Wait()
		switch got := s.Stats(); {
		case time.Since(begin) != time.Second:
			t.Errorf("time.Since(begin): got %v, want %v; took %v, stats %+v", time.Since(begin), time.Second, time.Since(begin), got)
		case got.Peak != users:
			t.Errorf("got.Peak: got %v, want %v; took %v, stats %+v", got.Peak, users, time.Since(begin), got)
		case got.Answered != users:
			t.Errorf("got.Answered: got %v, want %v; took %v, stats %+v", got.Answered, users, time.Since(begin), got)
		case got.InFlight != 0:
			t.Errorf("got.InFlight must be 0, got %v; took %v, stats %+v", got.InFlight, time.Since(begin), got)
		}
	})
}

func TestAClientThatLeavesIsCounted(t *testing.T) {
	for _, script := range []string{"lat=60000", "tdelay=10000"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(Config{})
			ctx, leave := context.WithCancel(t.Context())
			dropped := make(chan bool, 1)
			go func() {
				_, d := s.ask(ctx, "/s/"+script+"/v1/chat/completions", hello)
				dropped <- d
			}()
			synctest.Wait()
			begin := time.Now()
			leave()
			if !<-dropped || time.Since(begin) != 0 {
				t.Errorf("%s: not dropped at once", script)
			}
			if got := s.Stats(); got.Left != 1 || got.Answered != 0 || got.InFlight != 0 {
				t.Errorf("%s: stats %+v", script, got)
			}
		})
	}
}

// pipes is a listener without a network, for sockets in fake time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// running starts a server on pipes; its Run ends in the returned channel.
func onPipes(ctx context.Context) (*Server, *pipes, chan error) {
	s := newServer(Config{})
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.listener = p
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, p, done
}

func send(conn net.Conn, script string) {
	fmt.Fprintf(conn, "POST /s/%s/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", script, len(hello), hello)
}

func TestRunLetsShortAnswersEndAndCutsLongOnes(t *testing.T) {
	for _, c := range []struct {
		script   string
		want     time.Duration
		answered bool
	}{{"lat=1000", time.Second, true}, {"lat=60000", stopGrace, false}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			s, p, done := onPipes(ctx)
			conn := p.dial()
			defer conn.Close()
			send(conn, c.script)
			synctest.Wait()
			begin := time.Now()
			stop()
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if c.answered != (err == nil && r.StatusCode == 200) {
				t.Errorf("%s: %v, %v", c.script, r, err)
			}
			// Shutdown looks for the end of answers at intervals of up to half a second.
			if err := <-done; err != nil || time.Since(begin) < c.want || time.Since(begin) > c.want+time.Second/2 {
				t.Errorf("%s: Run ended after %v with %v", c.script, time.Since(begin), err)
			}
			if got := s.Stats(); got.InFlight != 0 || got.Left != 0 {
				t.Errorf("%s: stats %+v", c.script, got)
			}
		})
	}
}

func TestAConnectionIsKeptForTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		_, p, done := onPipes(ctx)
		conn := p.dial()
		in := bufio.NewReader(conn)
		for range 3 {
			send(conn, "lat=30000")
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil || r.Close {
				t.Fatal(r.Close, err)
			}
			time.Sleep(idleTimeout - time.Second)
		}
		conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestASlowSenderIsGivenUp(t *testing.T) {
	for begun, limit := range map[string]time.Duration{
		"POST /v1/chat": headerTimeout,
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{": bodyTimeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			_, p, done := onPipes(ctx)
			conn := p.dial()
			begin := time.Now()
			fmt.Fprint(conn, begun)
			_, err := io.Copy(io.Discard, conn)
			if took := time.Since(begin); took != limit || errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%.20q: given up after %v (%v), want %v", begun, took, err, limit)
			}
			conn.Close()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
