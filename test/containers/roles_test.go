// Package containers runs dspex against a real nats-server in a container, with the shipped nats.conf, and docker-compose.yml as it
// is. run.sh makes the images.
package containers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/dspex/dspex"
)

// startup bounds the start of a container, which takes seconds on a busy machine.
const startup = 3 * time.Minute

func password(user string) string { return "pw-of-" + user }

// passwords are the variables that nats.conf requires.
func passwords() map[string]string {
	return map[string]string{
		"DSPEX_DISPATCHER_PASSWORD": password("dispatcher"), "DSPEX_HOST_PASSWORD": password("host"),
		"DSPEX_CLIENT_PASSWORD": password("client"), "DSPEX_OPERATOR_PASSWORD": password("operator"), "DSPEX_BACKUP_PASSWORD": password("backup"),
	}
}

type deployment struct {
	t    *testing.T
	net  *testcontainers.DockerNetwork
	nats *testcontainers.DockerContainer
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startup)
	defer cancel()
	net, err := network.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Remove(context.Background()) })
	d := &deployment{t: t, net: net}
	d.nats = d.run("dspex-test-nats",
		testcontainers.WithEnv(passwords()), network.WithNetwork([]string{"nats"}, net), testcontainers.WithExposedPorts("4222/tcp"),
		testcontainers.WithFiles(shipped("nats.conf"), shipped("tenants/tenants.conf"), shipped("tenants/default.conf"), shipped("tenants/rights.conf")),
		testcontainers.WithCmd("--config", "/nats.conf"),
		testcontainers.WithWaitStrategyAndDeadline(startup, wait.ForLog("Server is ready")))
	return d
}

// shipped is a file of the broker's configuration.
func shipped(name string) testcontainers.ContainerFile {
	return testcontainers.ContainerFile{HostFilePath: "../../" + name, ContainerFilePath: "/" + name, FileMode: 0o444}
}

func (d *deployment) run(image string, options ...testcontainers.ContainerCustomizer) *testcontainers.DockerContainer {
	d.t.Helper()
	c, err := testcontainers.Run(d.t.Context(), image, options...)
	testcontainers.CleanupContainer(d.t, c)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// start runs a program of dspex as a user, until it prints ready or, if it should not get there, its log has the text.
func (d *deployment) start(user, pass, until string, command ...string) *testcontainers.DockerContainer {
	d.t.Helper()
	return d.run("dspex-test", network.WithNetwork(nil, d.net), testcontainers.WithCmd(command...),
		testcontainers.WithEnv(map[string]string{
			"NATS_URL": "nats://nats:4222", "NATS_USER": user, "NATS_PASSWORD": pass, "NATS_INBOX_PREFIX": "_INBOX." + user, "DSPEX_ACCOUNTS": "true",
		}),
		testcontainers.WithWaitStrategyAndDeadline(startup, wait.ForLog(until)))
}

// connect is a client's connection, and the denials that the server sends it.
func (d *deployment) connect(user string) (*nats.Conn, <-chan error) {
	d.t.Helper()
	url, err := d.nats.PortEndpoint(d.t.Context(), "4222/tcp", "nats")
	if err != nil {
		d.t.Fatal(err)
	}
	errs := make(chan error, 16)
	nc, err := nats.Connect(url, nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+user), nats.Timeout(10*time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(nc.Close)
	return nc, errs
}

func TestEachRoleAgainstARealServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	d := deploy(t)
	dispatcher := d.start("dispatcher", password("dispatcher"), "leads", "dispatcher", "--name", "d1", "--partitions", "8")
	host := d.start("host", password("host"), "ready host-1", "worker-host", "--name", "host-1", "--engine", "stub", "--workers", "1")
	nc, denials := d.connect("client")
	c := dspex.New(nc)

	t.Run("a request is answered", func(t *testing.T) {
		r, err := c.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
		if err != nil || !strings.Contains(string(r.Result), "capital of France") || r.Host != "host-1" {
			t.Errorf("%s by %s, %v", r.Result, r.Host, err)
		}
	})
	t.Run("what a client may not do is denied by the server and leaves no trace", func(t *testing.T) {
		for _, subject := range []string{"dspex.p.1.user_123", "$KV.dspex_sessions.s.user_123", "$JS.API.STREAM.PURGE.DSPEX_JOBS"} {
			if err := errors.Join(nc.Publish(subject, []byte("x")), nc.Flush()); err != nil {
				t.Fatal(err)
			}
			if err := <-denials; !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
				t.Errorf("%s: the next denial is %v", subject, err)
			}
		}
		r, err := c.Execute(ctx, "user_123", "predict", dspex.Args{"question": "Still there?"})
		if err != nil || r.SessionState != "warm" {
			t.Errorf("state %s, %v", r.SessionState, err)
		}
	})
	t.Run("dspex reads a context of the nats command line", func(t *testing.T) { dspexReadsTheContext(ctx, t, d) })
	t.Run("an operator looks, but does not touch", func(t *testing.T) { anOperatorLooksButDoesNotTouch(t, d) })
	t.Run("no role gets in with another's password", func(t *testing.T) {
		d.start("host", password("client"), "Authorization Violation", "worker-host", "--name", "host-2", "--engine", "stub")
		d.start("dispatcher", password("host"), "Authorization Violation", "dispatcher", "--name", "d2")
	})
	t.Run("a host has not the permissions of a dispatcher", func(t *testing.T) {
		d.start("host", password("host"), "Permissions Violation for Publish to", "dispatcher", "--name", "d3")
	})
	t.Run("what was accepted outlives the kill of the broker", func(t *testing.T) {
		now := time.Duration(0)
		if err := host.Stop(ctx, nil); err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			if _, err := c.Submit(ctx, "batch_1", "append", dspex.Args{"x": n}, dspex.WithJobID(fmt.Sprintf("j%d", n))); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.nats.Stop(ctx, &now); err != nil { // SIGKILL
			t.Fatal(err)
		}
		if err := d.nats.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := host.Start(ctx); err != nil {
			t.Fatal(err)
		}
		nc, _ := d.connect("client") // the port may be another one
		r, err := dspex.New(nc).Wait(ctx, dspex.JobRef{Session: "batch_1", ID: "j9"})
		if err != nil || !strings.Contains(strings.ReplaceAll(string(r.Result), " ", ""), "[0,1,2,3,4,5,6,7,8,9]") {
			t.Errorf("%s, %v", r.Result, err)
		}
	})
	for name, c := range map[string]*testcontainers.DockerContainer{"host": host, "dispatcher": dispatcher} {
		r, err := c.Logs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if strings.Contains(strings.ToLower(lines.Text()), "permissions violation") {
				t.Errorf("nats.conf lacks a right: %s: %s", name, lines.Text())
			}
		}
	}
}
