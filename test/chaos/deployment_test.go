//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// deployment is all of it. The first broker's routes lead through a wall, where it can be cut off.
type deployment struct {
	t           *testing.T
	dir         string
	wall        *natstest.Wall
	urls        string // of the brokers
	monitors    []string
	brokers     []*process
	dispatchers []*process
	hosts       []*process
	operator    *dspex.Client
}

func password(user string) string { return "pw-of-" + user + "-long-enough" }

func deploy(t *testing.T) *deployment {
	t.Helper()
	dir, err := os.MkdirTemp("", "dspex-chaos-run-") //nolint:usetesting // it is kept when the test fails
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, dir: dir, wall: natstest.NewWall(t)}
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Println("logs and data are in", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	for _, user := range []string{"dispatcher", "host", "client", "operator", "backup"} {
		t.Setenv("DSPEX_"+strings.ToUpper(user)+"_PASSWORD", password(user))
	}
	d.startBrokers(d.configure())
	for n := range 2 {
		d.dispatchers = append(d.dispatchers, d.add("dispatcher", fmt.Sprint("d", n+1), "--replicas", "3", "--partitions", "16"))
	}
	for n := range 3 {
		// Plenty of slots: a machine with few processors is slow while processes start, and nothing here is about overload.
		d.hosts = append(d.hosts, d.add("worker-host", fmt.Sprint("h", n+1), "--engine", "stub", "--workers", "2", "--slots", "32", "--checkout-timeout", "1m"))
	}
	for _, p := range append(d.hosts, d.dispatchers...) {
		d.must(p.awaitReady())
	}
	d.operator = d.connect("operator")
	return d
}

func (d *deployment) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// configure copies the shipped configuration and adds a tenant, as an operator does; it returns the file.
func (d *deployment) configure() string {
	d.t.Helper()
	at := filepath.Join(d.dir, "conf")
	d.must(os.CopyFS(filepath.Join(at, "tenants"), os.DirFS("../../tenants")))
	text, err := fs.ReadFile(os.DirFS("../.."), "nats.conf")
	d.must(err)
	d.must(os.WriteFile(filepath.Join(at, "nats.conf"), text, 0o600))
	secret := filepath.Join(d.dir, "acme.password")
	d.must(os.WriteFile(secret, []byte(password("acme")), 0o600))
	out, err := exec.Command(filepath.Join(bin, "dspex"), "tenants", "add", "acme", "--dir", filepath.Join(at, "tenants"), "--password-file", secret).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
	natstest.QuickHash(d.t, filepath.Join(at, "tenants", "acme.conf"), password("acme"))
	return filepath.Join(at, "nats.conf")
}

// startBrokers starts three. The first one comes last: brokers name others to each other, and those two must have found each other
// without a proxy by then.
func (d *deployment) startBrokers(config string) {
	d.t.Helper()
	var client, monitor, own, proxy [3]string
	for n := range own {
		client[n], monitor[n], own[n] = natstest.FreeAddress(d.t), natstest.FreeAddress(d.t), natstest.FreeAddress(d.t)
		proxy[n] = d.wall.Proxy(d.t, own[n])
	}
	for n := range own {
		routes := []string{proxy[0], own[1], own[2]}
		if n == 0 {
			routes = proxy[:]
		}
		name := fmt.Sprint("n", n)
		dir := filepath.Join(d.dir, name)
		d.must(os.MkdirAll(dir, 0o700))
		args := append([]string{brokerRole, config, name, dir, client[n], monitor[n], own[n], proxy[n]}, routes...)
		p := &process{t: d.t, name: name, log: filepath.Join(d.dir, name+".log"), make: func() *exec.Cmd { return exec.Command(os.Args[0], args...) }}
		d.brokers = append(d.brokers, p)
		d.urls += map[bool]string{true: "nats://" + client[n], false: ",nats://" + client[n]}[d.urls == ""]
		d.monitors = append(d.monitors, "http://"+monitor[n])
	}
	for _, n := range []int{1, 2, 0} {
		if n == 0 {
			d.awaitRoutes(2)
		}
		d.launch(d.brokers[n])
	}
	d.must(d.awaitBrokers())
}

// launch starts a process that ends with the test.
func (d *deployment) launch(p *process) {
	p.start()
	d.t.Cleanup(p.kill)
}

// awaitRoutes waits until the last brokers, n of them, are connected.
func (d *deployment) awaitRoutes(n int) {
	d.t.Helper()
	d.must(eventually(fmt.Sprint(n, " brokers that know each other"), func() error {
		for _, monitor := range d.monitors[len(d.monitors)-n:] {
			text, err := get(monitor + "/routez")
			if err != nil {
				return err
			}
			if !strings.Contains(text, `"remote_name"`) {
				return fmt.Errorf("%s has no route", monitor)
			}
		}
		return nil
	}))
}

// awaitBrokers waits until every broker has all that the others have.
func (d *deployment) awaitBrokers() error {
	return eventually("brokers that are healthy", func() error {
		for _, monitor := range d.monitors {
			if text, err := get(monitor + "/healthz"); err != nil || !strings.Contains(text, `"ok"`) {
				return fmt.Errorf("%s: %s %w", monitor, text, err)
			}
		}
		return nil
	})
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Body.Close() }()
	var text [4096]byte
	n, _ := r.Body.Read(text[:])
	return string(text[:n]), nil
}

// eventually waits for what takes a while.
func eventually(what string, f func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s: %w", patience, what, err)
		}
	}
}

func (d *deployment) add(program, name string, args ...string) *process {
	d.t.Helper()
	user := strings.TrimPrefix(program, "worker-")
	p := &process{t: d.t, name: name, log: filepath.Join(d.dir, name+".log"), make: func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), append([]string{"--name", name}, args...)...)
		cmd.Env = append(os.Environ(), "NATS_URL="+d.urls, "NATS_USER="+user, "NATS_PASSWORD="+password(user), "NATS_INBOX_PREFIX=_INBOX."+user)
		if program == "dispatcher" {
			cmd.Env = append(cmd.Env, "DSPEX_ACCOUNTS=true")
		}
		return cmd
	}}
	d.launch(p)
	return p
}

func (d *deployment) connect(user string) *dspex.Client {
	d.t.Helper()
	prefix := user
	if user == "acme" {
		prefix = "client"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var c *dspex.Client
	d.must(eventually("a connection of "+user, func() (err error) {
		c, err = dspex.Connect(ctx, d.urls, dspex.WithNATS(nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+prefix), nats.MaxReconnects(-1), nats.Timeout(10*time.Second)))
		return err
	}))
	d.t.Cleanup(c.Close)
	return c
}

// awaitHealthy waits until the deployment reports that all is well, after it was healed.
func (d *deployment) awaitHealthy(c *client) {
	d.t.Helper()
	d.must(eventually("a healthy deployment", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		h, err := d.operator.Health(ctx)
		if err == nil && h.Status != dspex.HealthHealthy {
			err = fmt.Errorf("%s: %v", h.Status, h.Reasons)
		}
		return err
	}))
}
