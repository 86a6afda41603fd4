package production

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

// apart is a deployment whose broker is a process of its own.
type apart struct {
	*testing.T
	url, monitor, pid string
}

// deployApart starts the shipped broker, nats-server itself with the memory settings of docker-compose.yml.
func deployApart(t *testing.T) *apart {
	t.Helper()
	fresh(t)
	dir := t.TempDir()
	if err := programtest.Build(dir, "github.com/nats-io/nats-server/v2"); err != nil {
		t.Fatal(err)
	}
	b := &apart{T: t, monitor: natstest.FreeAddress(t)}
	_, port, _ := net.SplitHostPort(b.monitor)
	conf, pid := withTenants(t), filepath.Join(dir, "pid")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("store_dir: /var/lib/dspex-nats"), fmt.Appendf(nil, "store_dir: %q", filepath.Join(dir, "data")), 1)
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := programtest.Guarded(filepath.Join(dir, "nats-server"), "-c", conf, "-a", "127.0.0.1", "-p", "-1", "-m", port, "-P", pid, "--ports_file_dir", dir)
	cmd.Stderr = t.Output()
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=110MiB", "GOGC=50")
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alive.Close(); _ = cmd.Wait() })
	b.await("the broker", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "*.ports"))
		if len(files) == 0 {
			return false
		}
		var ports struct{ Nats []string }
		text, err := os.ReadFile(files[0])
		if err != nil || json.Unmarshal(text, &ports) != nil || len(ports.Nats) == 0 {
			return false
		}
		b.url = ports.Nats[0]
		return true
	})
	text, err = os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	b.pid = strings.TrimSpace(string(text))
	at := func(user string) []string { return append(environ(user), "NATS_URL="+b.url) }
	d := startIn(t, at("dispatcher"), "dispatcher", "--name", "d1", "--partitions", "8")
	h := startIn(t, at("host"), "worker-host", "--name", "h1", "--engine", "stub", "--workers", "1", "--slots", "4")
	for _, p := range []*process{h, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			t.Fatalf("it said %q", line)
		}
	}
	return b
}

// patience is what a machine that has much else to do may need.
const patience = 5 * time.Minute

// await looks until it is so.
func (b *apart) await(what string, so func() bool) {
	b.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(end) {
			b.Fatalf("%s is not there", what)
		}
	}
}

// closed are the connections that the broker has closed for a reason that begins like this, by name.
func (b *apart) closed(reason string) (names []string) {
	b.Helper()
	r, err := http.Get("http://" + b.monitor + "/connz?state=closed&limit=10000")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	var closed server.Connz
	if err := json.NewDecoder(r.Body).Decode(&closed); err != nil {
		b.Fatal(err)
	}
	for _, c := range closed.Conns {
		if strings.HasPrefix(c.Reason, reason) {
			names = append(names, c.Name)
		}
	}
	return names
}

// peak is the most memory that the broker has had, in MiB.
func (b *apart) peak() int {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", b.pid, "status"))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return n >> 10
}

func (b *apart) connect(name string) *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(b.url, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"), nats.Name(name), nats.Timeout(time.Minute))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// beside calls all the time with the Go client, until stop, and notes what it gets.
func (b *apart) beside() (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	c, err := dspex.Connect(ctx, b.url, dspex.WithNATS(nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"), nats.Timeout(time.Minute)))
	if err != nil {
		b.Fatal(err)
	}
	got := map[string]int{}
	var working sync.WaitGroup
	working.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			bounded, end := context.WithTimeout(context.WithoutCancel(ctx), patience)
			_, err := c.Execute(bounded, fmt.Sprint("beside", n%16), "echo", dspex.Args{"x": n})
			end()
			if e, ok := errors.AsType[*dspex.Error](err); ok {
				got[e.Code]++
			} else {
				got["ok"]++
			}
		}
	})
	return func() {
		b.Helper()
		cancel()
		working.Wait()
		c.Close()
		b.Logf("another client meanwhile: %v", got)
		for code := range got {
			if !slices.Contains([]string{"ok", dspex.CodeOverloaded, "checkout_timeout"}, code) {
				b.Errorf("another client got %s", code)
			}
		}
		if got["ok"] == 0 {
			b.Error("no call of another client succeeded")
		}
	}
}

// burst makes n calls at once, each over a connection of its own, and counts the answers.
func (b *apart) burst(n int, subject string, body []byte) map[string]int {
	b.Helper()
	var conns []*nats.Conn
	for range n {
		conns = append(conns, b.connect("burst"))
	}
	var mu sync.Mutex
	got := map[string]int{}
	var calling sync.WaitGroup
	for i, nc := range conns {
		calling.Go(func() {
			m, err := nc.Request(strings.ReplaceAll(subject, "*", fmt.Sprint("burst", i)), body, 30*time.Second)
			mu.Lock()
			defer mu.Unlock()
			got[answer(m, err)]++
		})
	}
	calling.Wait()
	for _, nc := range conns {
		nc.Close()
	}
	return got
}

// answer names an answer: ok, the code of an error, or the error of NATS.
func answer(m *nats.Msg, err error) string {
	var said struct {
		OK    bool
		Error struct{ Code string }
	}
	switch {
	case err != nil:
		return err.Error()
	case json.Unmarshal(m.Data, &said) != nil:
		return "unreadable"
	case said.OK:
		return "ok"
	}
	return said.Error.Code
}

func (b *apart) noneOfOursIsSlow() {
	b.Helper()
	for _, name := range b.closed("Slow Consumer") {
		if strings.HasPrefix(name, "dspex ") {
			b.Errorf("the broker dropped %q as a slow consumer", name)
		}
	}
}

// mostMemory of the broker, in MiB: what docker-compose.yml lets it have.
const mostMemory = 768

// TestABurstOfLargeCallsDropsNobody: 200 calls of 1 MB, and then 200 of half of that, come at once.
func TestABurstOfLargeCallsDropsNobody(t *testing.T) {
	b := deployApart(t)
	stop := b.beside()
	for _, x := range []struct {
		calls, size int
		want        []string
	}{
		{200, 1<<20 - 1000, []string{"too_large"}},
		{200, 500_000, []string{"ok", "tenant_quota", dspex.CodeOverloaded, "checkout_timeout"}},
	} {
		body := []byte(`{"command":"echo","args":{"x":"` + strings.Repeat("x", x.size) + `"}}`)
		got := b.burst(x.calls, "dspex.rpc.session.*", body)
		t.Logf("%d calls of %d bytes: %v", x.calls, x.size, got)
		for code := range got {
			// NATS's own refusal: the broker had no room for it. No answer: a connection that the machine has no time for is stale, and
			// what it held is lost.
			if !slices.Contains(append(x.want, nats.ErrNoResponders.Error(), nats.ErrTimeout.Error()), code) {
				t.Errorf("calls of %d bytes got %q", x.size, code)
			}
		}
	}
	stop()
	b.noneOfOursIsSlow()
	t.Logf("the broker had %d MiB at most", b.peak())
	if b.peak() > mostMemory {
		t.Errorf("the broker had %d MiB, more than %d", b.peak(), mostMemory)
	}
}

// TestAClientThatReadsNothingHarmsNobodyElse: it requests a large outcome again and again.
func TestAClientThatReadsNothingHarmsNobodyElse(t *testing.T) {
	b := deployApart(t)
	large := []byte(`{"command":"echo","args":{"x":"` + strings.Repeat("x", 240_000) + `"}}`)
	m := &nats.Msg{Subject: "dspex.rpc.session.large", Data: large, Header: nats.Header{"Dspex-Job": {"j"}}}
	if got, err := b.connect("large").RequestMsg(m, patience); answer(got, err) != "ok" {
		t.Fatal(answer(got, err))
	}
	stop := b.beside()
	where, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	deaf, err := net.Dial("tcp", where.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	var said bytes.Buffer
	fmt.Fprintf(&said, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"client\",\"pass\":%q,\"name\":\"deaf\"}\r\nSUB _INBOX.client.deaf.* 1\r\n", password("client"))
	ask := `{"session":"large","job":"j"}`
	for i := range 600 { // 144 MB of answers
		fmt.Fprintf(&said, "PUB dspex.rpc.jobs.get _INBOX.client.deaf.%d %d\r\n%s\r\n", i, len(ask), ask)
	}
	if _, err := deaf.Write(said.Bytes()); err != nil {
		t.Fatal(err)
	}
	b.await("the end of who reads nothing", func() bool { return slices.Contains(b.closed(""), "deaf") })
	stop()
	b.noneOfOursIsSlow()
	t.Logf("the broker had %d MiB at most", b.peak())
	if b.peak() > mostMemory {
		t.Errorf("the broker had %d MiB, more than %d", b.peak(), mostMemory)
	}
}
