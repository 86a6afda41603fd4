package daemon

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/natstest"
)

// lines is a log that a test waits for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // capacity 1
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), text)
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-l.more:
		case <-t.Context().Done():
			t.Fatalf("the log must contain %q", text)
		}
	}
}

func TestAProgramOutlivesTheRotationOfItsPassword(t *testing.T) {
	users := func(password string) []*server.User { return []*server.User{{Username: "host", Password: password}} }
	var options *server.Options
	broker := natstest.Run(t, func(o *server.Options) {
		o.Users = users("first")
		options = o
	})
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := &lines{more: make(chan struct{}, 1)}
	connected, refused := make(chan *nats.Conn, 1), make(chan struct{}, 4)
	p := Program{
		Name: "rotates", Flags: func(*pflag.FlagSet) {}, Check: func(*Surroundings) error { return nil },
		Run: func(ctx context.Context, _ *Surroundings, nc *nats.Conn) error {
			logged := nc.ErrorHandler()
			nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
				logged(nc, sub, err)
				select {
				case refused <- struct{}{}:
				default:
				}
			})
			connected <- nc
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
	status := make(chan int, 1)
	go func() {
		status <- p.Execute(ctx, &Surroundings{Out: log, Err: log, Env: func(string) string { return "" }},
			[]string{"--server", broker.ClientURL(), "--user", "host", "--password-file", file})
	}()
	<-connected

	options = options.Clone()
	options.Users = users("second")
	if err := broker.ReloadOptions(options); err != nil {
		t.Fatal(err)
	}
	for range 4 { // two of them end a connection for good by default
		<-refused
	}
	log.await(t, "broker_refuses_credentials")
	write("second")
	log.await(t, "broker_back")
	stop()
	if got := <-status; got != ExitOK {
		t.Errorf("exit status: got %d, want %d", got, ExitOK)
	}
}
