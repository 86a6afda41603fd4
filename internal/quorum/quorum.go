// Package quorum keeps a connection on a broker that has quorum. A broker that is cut off from its cluster still answers pings, so its
// clients stay on it until the cut is over. This package leaves it for another broker of the cluster that was tried and serves.
package quorum

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/clock"
)

// Check checks whether the broker of a connection has quorum; nil: it has.
type Check func(ctx context.Context, nc *nats.Conn) error

const (
	// pause is the time between questions on the own connection, unless Pause sets another one.
	pause = 500 * time.Millisecond
	// checkTimeout bounds one. An answer takes milliseconds, from another broker of the cluster, too.
	checkTimeout = time.Second
	// Lasting is how long the own broker must have had no quorum before another one is accepted as having it: a leader that was just cut
	// off itself still reports it for a while. A Check must be right after that time.
	Lasting = 4 * time.Second
)

// Keeper watches one connection.
type Keeper struct {
	nc    *nats.Conn
	check Check
	log   *slog.Logger
	own   bool // the connection shares the broker's process

	Pause time.Duration // between questions; set it before Run

	runs  sync.Mutex // one Run at a time
	known []string   // servers that were ever named, also those that a cut-off broker does not name any more
}

// New watches nc; an address that it was given, or that a broker has named, can be moved to.
func New(nc *nats.Conn, check Check, log *slog.Logger) *Keeper {
	k := &Keeper{nc: nc, check: check, log: log, own: nc.Opts.InProcessServer != nil, Pause: pause}
	k.others() // while it names them
	return k
}

// Run checks until ctx ends, and moves the connection when its broker has no quorum and another one has. In an election none has,
// and the connection stays.
func (k *Keeper) Run(ctx context.Context) {
	k.runs.Lock()
	defer k.runs.Unlock()
	var since time.Time
	for range clock.Every(ctx, k.Pause) {
		since = k.step(ctx, since)
	}
}

// step checks once, and looks for another broker if it is time; it returns since when there is no quorum, zero if there is.
func (k *Keeper) step(ctx context.Context, since time.Time) time.Time {
	others, began := k.others(), time.Now()
	if len(others) == 0 || !k.nc.IsConnected() { // nats.go looks for another one itself
		return time.Time{}
	}
	found := make(chan string, 1)
	if !since.IsZero() && time.Since(since) >= Lasting { // meanwhile: this one's failure takes its time
		go func() { found <- k.find(ctx, others) }()
	} else {
		close(found)
	}
	err := k.try(ctx, k.nc)
	better := <-found
	switch {
	case err == nil || ctx.Err() != nil:
		return time.Time{}
	case better == "" && since.IsZero():
		return began
	case better == "":
		return since
	case k.try(ctx, k.nc) == nil: // an election has just ended
		return time.Time{}
	}
	k.move(better, others, err)
	return time.Time{}
}

func (k *Keeper) try(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return k.check(ctx, nc)
}

// others are the known servers but the one that is connected, each with the user of its address.
func (k *Keeper) others() (list []string) {
	if k.own {
		return nil
	}
	current, err := url.Parse(k.nc.ConnectedUrl())
	if err != nil || current.Host == "" {
		return nil
	}
	for _, address := range k.nc.Servers() {
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		if u.User == nil {
			u.User = current.User
		}
		if !slices.Contains(k.known, u.String()) && len(k.known) < mostKnown {
			k.known = append(k.known, u.String())
		}
	}
	for _, address := range k.known {
		if u, err := url.Parse(address); err == nil && u.Host != current.Host {
			list = append(list, address)
		}
	}
	return list
}

// mostKnown bounds the servers that are kept: more than any cluster has.
const mostKnown = 64

// find tries servers, all at once, and returns one that has quorum; "" if none has.
func (k *Keeper) find(ctx context.Context, servers []string) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	good := make(chan string, len(servers))
	var trials sync.WaitGroup
	for _, server := range servers {
		trials.Go(func() {
			if k.serves(ctx, server) {
				good <- server
				cancel()
			}
		})
	}
	trials.Wait()
	select {
	case server := <-good:
		return server
	default:
		return ""
	}
}

// serves connects for one question.
func (k *Keeper) serves(ctx context.Context, server string) bool {
	o := k.nc.Opts
	o.Url, o.Servers, o.Name = server, nil, o.Name+" (probe)"
	o.AllowReconnect, o.RetryOnFailedConnect, o.Timeout, o.IgnoreDiscoveredServers = false, false, checkTimeout, true
	o.ClosedCB, o.DisconnectedCB, o.DisconnectedErrCB, o.ConnectedCB, o.ReconnectedCB, o.ReconnectErrCB = nil, nil, nil, nil, nil, nil
	o.DiscoveredServersCB, o.LameDuckModeHandler = nil, nil
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {} // a refusal is an unanswered question
	nc, err := o.Connect()
	if err != nil {
		return false
	}
	defer nc.Close()
	return k.try(ctx, nc) == nil
}

// move leaves for a server that was tried.
func (k *Keeper) move(better string, others []string, why error) {
	from := k.nc.ConnectedUrlRedacted()
	pool := append([]string{k.nc.ConnectedUrl(), better}, slices.DeleteFunc(slices.Clone(others), func(s string) bool { return s == better })...)
	err := k.nc.SetServerPool(pool) // the next after the present one is taken
	if err == nil {
		err = k.nc.ForceReconnect()
	}
	if err != nil {
		k.log.Warn("broker_not_left", "server", from, "error", err)
		return
	}
	k.log.Warn("broker_left", "server", from, "to", redacted(better), "error", why, "hint", "it is cut off from its cluster")
}

func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Redacted()
}
