package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/stream"
)

const (
	monitorPort     = "8222" // of nats.conf
	mostAnswer      = 1 << 20
	nearlyFull      = 0.8
	mostDispatchers = 100
	lastReply       = 300 * time.Millisecond // after which no dispatcher answers
	clockSkew       = 2 * time.Second        // as the health check has it
)

func (d *doctor) broker(ctx context.Context, nc *nats.Conn) {
	if err := link.CheckVersion(nc); err != nil {
		d.add("broker", Wrong, "upgrade it", "%v", err)
	} else {
		d.fine("broker", "nats-server %s, messages of at most %s", nc.ConnectedServerVersion(), size(nc.MaxPayload()))
	}
	if most := nc.MaxPayload(); most < leastBytes {
		d.add("broker", Warning, "set max_payload in its configuration: 1MB at least, 8MB for large sessions", "max_payload is %d bytes", most)
	}
	if rtt, err := nc.RTT(); err == nil && rtt > slowBroker {
		d.add("broker", Warning, "each job takes several round trips: put hosts close to the broker", "a round trip takes %v", rtt.Round(time.Millisecond))
	}
	d.monitored(ctx, nc)
}

// varz is what is read of the broker's monitoring.
type varz struct {
	ServerID  string `json:"server_id"`
	JetStream struct {
		Config *struct {
			MaxStore     int64         `json:"max_storage"`
			StoreDir     string        `json:"store_dir"`
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
		} `json:"config"`
	} `json:"jetstream"`
}

// monitored checks what a broker shows in its monitoring alone: when it writes to the disk, and the disk's room.
func (d *doctor) monitored(ctx context.Context, nc *nats.Conn) {
	address, local := d.monitor, false
	if u, err := url.Parse(nc.ConnectedUrl()); err == nil && address == "" {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
			address, local = "http://"+net.JoinHostPort(u.Hostname(), monitorPort), true
		}
	}
	v, err := readVarz(ctx, address)
	switch {
	case address == "" || local && (err != nil || v.ServerID != nc.ConnectedServerId()):
		d.add("broker", Note, "--monitor http://HOST:"+monitorPort+" names its monitoring (nats.conf, http)", "sync_interval and the broker's disk were not checked")
		return
	case err != nil:
		d.add("broker", Warning, "is that the address of its monitoring (nats.conf, http)?", "--monitor: %v", err)
		return
	case v.JetStream.Config == nil:
		d.add("broker", Wrong, "start it with nats.conf, or with `nats-server -js`", "JetStream is not enabled")
		return
	}
	js := v.JetStream.Config
	if js.SyncAlways {
		d.fine("broker", "sync_interval is always: an accepted job is on disk")
	} else {
		d.add("broker", Warning, "sync_interval: always in its configuration; docs/operations.md, Broker", "sync_interval is %v: jobs that were accepted since then are lost when the machine of the broker fails", js.SyncInterval)
	}
	if js.StoreDir != "" && exists(js.StoreDir) {
		d.room("the broker's streams", js.StoreDir)
	}
}

func readVarz(ctx context.Context, address string) (v varz, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/varz", nil)
	if err != nil {
		return v, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s answers %s", address, answer.Status)
	}
	return v, json.NewDecoder(io.LimitReader(answer.Body, mostAnswer)).Decode(&v)
}

// account checks what the broker lets this account store.
func (d *doctor) account(ctx context.Context, js jetstream.JetStream) {
	look, done := d.bounded(ctx, lookFor)
	sent := time.Now()
	if of, err := js.Stream(look, stream.Jobs); err == nil {
		d.ownClock(sent, of.CachedInfo().TimeStamp, time.Now())
	}
	done()
	ctx, done = d.bounded(ctx, lookFor)
	defer done()
	info, err := js.AccountInfo(ctx)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		d.add("storage", Wrong, "see nats.conf, or start the broker with `nats-server -js`", "JetStream is not enabled for this account")
		return
	}
	if d.unseen(ctx, "storage", err) {
		return
	}
	d.stores(int64(info.Store), info.Limits.MaxStore) //nolint:gosec // fewer than 2^63 bytes
}

// stores judges what is stored against the limit, which is -1 or 0 where there is none.
func (d *doctor) stores(stored, most int64) {
	switch {
	case most <= 0:
		d.fine("storage", "%s stored; the account has no limit of its own", size(stored))
	case float64(stored) > nearlyFull*float64(most):
		d.add("storage", Warning, "raise the account's max_file, or keep outcomes shorter (--results-min-age)", "%s stored, of %s that the account may store: jobs are refused when it is full", size(stored), size(most))
	default:
		d.fine("storage", "%s stored, of %s", size(stored), size(most))
	}
}

// clocks compares the clocks of hosts with the broker's.
func (d *doctor) clocks(hosts dspex.Hosts) {
	var measured struct {
		Hosts []struct {
			Host string `json:"host"`
			Off  *int64 `json:"clock_off_ms"`
		} `json:"hosts"`
	}
	if err := json.Unmarshal(hosts.Raw, &measured); err != nil {
		return
	}
	known, right := false, true
	for _, h := range measured.Hosts {
		if h.Off == nil {
			continue
		}
		known = true
		if off := time.Duration(*h.Off) * time.Millisecond; off.Abs() > clockSkew {
			right = false
			d.skewed("host "+h.Host, off)
		}
	}
	if known && right {
		d.fine("clocks", "those of all hosts are within %v of the broker's", clockSkew)
	}
}

func (d *doctor) skewed(of string, off time.Duration) {
	d.add("clocks", Warning, "run a time service on every machine; docs/operations.md", "the clock of %s is off by %v from the broker's", of, off.Round(time.Millisecond))
}

// ownClock compares this machine's clock with the broker's, by the time of an answer.
func (d *doctor) ownClock(sent, broker, answered time.Time) {
	if broker.IsZero() {
		return
	}
	if off := sent.Add(answered.Sub(sent) / 2).Sub(broker); off.Abs() > clockSkew+answered.Sub(sent) {
		d.skewed("this machine", off)
	}
}

// versions shows what runs, side by side.
func (d *doctor) versions(nc *nats.Conn, hosts dspex.Hosts) {
	own := daemon.Version()
	all, others := []string{"dspex " + own + " here", "nats-server " + nc.ConnectedServerVersion()}, false
	for name, version := range dispatchers(nc) {
		all, others = append(all, "dispatcher "+name+" "+version), others || version != own
	}
	slices.Sort(all[2:])
	for _, h := range hosts.Hosts {
		if h.State != dspex.HostGone {
			all, others = append(all, "host "+h.Host+" "+h.Version+" with "+h.Engine), others || h.Version != own
		}
	}
	if others {
		d.add("versions", Note, "fine during an upgrade; otherwise start them from one release", "%s", strings.Join(all, ", "))
		return
	}
	d.fine("versions", "%s", strings.Join(all, ", "))
}

// dispatchers are the versions of those that answer, by their names.
func dispatchers(nc *nats.Conn) map[string]string {
	all := map[string]string{}
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil || nc.PublishRequest("$SRV.INFO.dspex", replies.Subject, nil) != nil {
		return all
	}
	defer func() { _ = replies.Unsubscribe() }()
	for range mostDispatchers {
		m, err := replies.NextMsg(lastReply)
		if err != nil {
			break
		}
		var of struct {
			Metadata struct{ Dispatcher, Version string } `json:"metadata"`
		}
		if json.Unmarshal(m.Data, &of) == nil && of.Metadata.Dispatcher != "" && of.Metadata.Version != "" {
			all[of.Metadata.Dispatcher] = of.Metadata.Version
		}
	}
	return all
}

// permissions sums up what this user could not check.
func (d *doctor) permissions() {
	if len(d.mayNot) == 0 {
		d.fine("permissions", "this user may do what operators do, and read the broker's objects")
		return
	}
	d.add("permissions", Note, "docs/operations.md, Permissions", "this user may not check: %s", strings.Join(d.mayNot, ", "))
}
