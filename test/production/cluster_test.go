package production

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// freePorts are of clients or of routes.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		_, port, _ := net.SplitHostPort(natstest.FreeAddress(t))
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, number)
	}
	return ports
}

// clustered is the n-th of three brokers with the shipped configuration of a cluster.
func clustered(t *testing.T, n int, clients, routes []int) *server.Server {
	t.Helper()
	var others []string
	for i, port := range routes {
		if i != n {
			others = append(others, fmt.Sprintf("%q", fmt.Sprintf("nats://route:%s@127.0.0.1:%d", password("route"), port)))
		}
	}
	t.Setenv("DSPEX_SERVER_NAME", fmt.Sprint("dspex-", n+1))
	t.Setenv("DSPEX_ROUTE_PASSWORD", password("route"))
	t.Setenv("DSPEX_ROUTES", "["+strings.Join(others, ", ")+"]")
	o, err := server.ProcessConfigFile("../../deploy/cluster.conf")
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case o.ServerName != fmt.Sprint("dspex-", n+1):
		t.Fatalf(`o.ServerName: got %v, want %v; server %s of cluster %s with %d routes, sync always: %t`, o.ServerName, fmt.Sprint("dspex-", n+1), o.ServerName, o.Cluster.Name, len(o.Routes), o.SyncAlways)
	case o.Cluster.Name != "dspex":
		t.Fatalf(`o.Cluster.Name must be "dspex", got %v; server %s of cluster %s with %d routes, sync always: %t`, o.Cluster.Name, o.ServerName, o.Cluster.Name, len(o.Routes), o.SyncAlways)
	case len(o.Routes) != 2:
		t.Fatalf("len(o.Routes) must be 2, got %v; server %s of cluster %s with %d routes, sync always: %t", len(o.Routes), o.ServerName, o.Cluster.Name, len(o.Routes), o.SyncAlways)
	case !o.SyncAlways:
		t.Fatalf("must hold: o.SyncAlways; server %s of cluster %s with %d routes, sync always: %t", o.ServerName, o.Cluster.Name, len(o.Routes), o.SyncAlways)
	}
	o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", clients[n], 0, filepath.Join(t.TempDir(), "data"), true, true
	o.Cluster.Host, o.Cluster.Port = "127.0.0.1", routes[n]
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// The first broker starts with dispatcher and host, the others only then.
func TestThreeBrokersFromNothingStartWithoutAnExitAndServeWithoutOneOfThem(t *testing.T) {
	fresh(t)
	clients, routes := freePorts(t, 3), freePorts(t, 3)
	brokers := []*server.Server{clustered(t, 0, clients, routes), clustered(t, 1, clients, routes), clustered(t, 2, clients, routes)}
	var urls []string
	for _, port := range clients {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	all := strings.Join(urls, ",")
	at := func(user string) []string { return append(environ(user), "NATS_URL="+all) }
	go brokers[0].Start() // JetStream of a cluster waits for the others
	if !brokers[0].ReadyForConnections(30 * time.Second) {
		t.Fatal("the first broker does not start")
	}
	d := startIn(t, at("dispatcher"), "dispatcher", "--name", "d1", "--partitions", "4", "--replicas", "3", "--jobs-size", "64MiB", "--results-size", "64MiB", "--dlq-size", "64MiB")
	h := startIn(t, at("host"), "worker-host", "--name", "h1", "--engine", "stub", "--workers", "1", "--slots", "4")
	brokers[1].Start()
	brokers[2].Start()
	for _, p := range []*process{h, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			t.Fatalf("it said %q", line)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	as := func(user string) *dspex.Client {
		t.Helper()
		c, err := dspex.Connect(ctx, all, dspex.WithNATS(nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+user)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	c := as("client")
	turn := func(n int) {
		t.Helper()
		r, err := c.Execute(ctx, "s", "append", dspex.Args{"x": n}, dspex.WithJobID(fmt.Sprint("turn-", n)))
		var got struct{ List []int }
		if err != nil || r.Decode(&got) != nil || len(got.List) != n+1 {
			t.Errorf("turn %d: %s %v", n, r.Result, err)
		}
	}
	turn(0)
	brokers[2].Shutdown()
	brokers[2].WaitForShutdown()
	turn(1)
	operator := as("operator").Admin()
	if _, err := operator.SetPartitions(ctx, 16); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := operator.Partitions(ctx)
		if err == nil && !now.Changing && now.Serving == 16 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%+v, %v", now, err)
		}
		<-tick.C
	}
	turn(2)
}
