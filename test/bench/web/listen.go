package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/test/bench/agent"
)

// stream begins a stream of events.
func stream(url string, t Talk, n int) (*net.TCPConn, error) {
	host := strings.TrimPrefix(url, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"command": "talk", "args": t})
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "POST /v1/sessions/%s/jobs HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		agent.Session(n), host, len(body), body)
	return c.(*net.TCPConn), err
}

// Listen reads streams of events, or lets them lie.
func Listen(url string) error {
	fmt.Println("ready")
	return agent.Obey(func(o agent.Order) (agent.Answer, error) {
		t := Talk{Rate: o.Count, Size: o.Size, Seconds: o.Seconds}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var first error
		a, began := agent.Answer{}, time.Now()
		for n := range o.Window {
			wg.Go(func() {
				got, err := listen(url, t, n, o.Do == "ignore")
				mu.Lock()
				defer mu.Unlock()
				a.Count += got
				first = errors.Join(first, err)
			})
		}
		wg.Wait()
		a.Seconds = time.Since(began).Seconds()
		return a, first
	})
}

// listen counts the partials of one stream, which must end with its reply. Who ignores them counts as one if the stream was ended before that.
func listen(url string, t Talk, n int, ignore bool) (int, error) {
	c, err := stream(url, t, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if ignore {
		_ = c.SetReadBuffer(4096)
		<-time.After(time.Duration(t.Seconds * float64(time.Second)))
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		rest, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(rest, []byte("event: reply")) {
			return 0, nil
		}
		return 1, nil
	}
	got, in := 0, bufio.NewReaderSize(c, 32<<10)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case bytes.HasPrefix(line, []byte("event: partial")):
			got++
		case bytes.HasPrefix(line, []byte("event: reply")):
			return got, nil
		case err != nil:
			return got, fmt.Errorf("stream %d ended after %d partials: %w", n, got, err)
		}
	}
}
