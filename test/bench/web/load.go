// Package web has the processes of the bench that use HTTP.
package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/dspex/dspex/test/bench/agent"
)

// connection is a bare client of HTTP: what it does itself costs little of what is measured. net/http's own would add two goroutines that wake
// one another to the time of each call.
type connection struct {
	net.Conn
	in   *bufio.Reader
	head string // of each request, without the session
	text []byte
}

func dial(url string) (*connection, error) {
	host := strings.TrimPrefix(url, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, in: bufio.NewReader(c), head: " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"}, nil
}

// post runs the bench's call in a session.
func (c *connection) post(session string) error {
	c.text = fmt.Appendf(c.text[:0], "POST /v1/sessions/%s/jobs%sContent-Length: %d\r\n\r\n%s", session, c.head, len(agent.CallBody), agent.CallBody)
	if _, err := c.Write(c.text); err != nil {
		return err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, text)
	}
	return err
}

// Load sends calls over HTTP, as a client without NATS does: one connection for each lane.
func Load(url string) error {
	var lanes []*connection
	fmt.Println("ready")
	return agent.Obey(func(o agent.Order) (agent.Answer, error) {
		for len(lanes) < o.Window {
			c, err := dial(url)
			if err != nil {
				return agent.Answer{}, err
			}
			lanes = append(lanes, c)
		}
		return agent.Window(o, func(lane, n int, done func(error)) {
			go func() { done(lanes[lane].post(agent.Session(n))) }()
		})
	})
}
