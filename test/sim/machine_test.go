package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
)

// setting is what a wall clock was set to at a moment, and how it runs from then on.
type setting struct {
	at    time.Time
	by    time.Duration // off from the true time
	drift float64       // gained in each second
}

// wallClock is the clock of one machine: true until it is set.
type wallClock struct {
	mu   sync.Mutex
	sets []setting
}

func (c *wallClock) set(by time.Duration, drift float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets = append(c.sets, setting{time.Now(), by, drift})
}

// off is by how much the clock was wrong at a moment; gained, what it had gained by drift alone until then.
func (c *wallClock) off(at time.Time) (off, gained time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.sets {
		until := at
		if i+1 < len(c.sets) && c.sets[i+1].at.Before(at) {
			until = c.sets[i+1].at
		}
		if until.After(s.at) || until.Equal(s.at) {
			since := time.Duration(float64(until.Sub(s.at)) * s.drift)
			off, gained = s.by+since, gained+since
		}
	}
	return off, gained
}

// steps are the settings so far.
func (c *wallClock) steps() []setting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]setting(nil), c.sets...)
}

// clocks are those of the machines that processes run on, by the processes' names: a restart of a process sets no clock.
type clocks struct {
	broker *wallClock

	mu sync.Mutex
	of map[string]*wallClock
}

func (c *clocks) named(name string) *wallClock {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*wallClock{}
	}
	if c.of[name] == nil {
		c.of[name] = &wallClock{}
	}
	return c.of[name]
}

// machine is what a process reads: both clocks of a machine run on one quartz, and only its wall clock can be set.
type machine struct {
	wall  *wallClock
	began time.Time
}

func (c *clocks) machine(name string) clock.Machine { return machine{c.named(name), time.Now()} }

func (m machine) Wall() time.Time {
	now := time.Now()
	off, _ := m.wall.off(now)
	return now.Add(off)
}

func (m machine) Mono() clock.Mono {
	now := time.Now()
	_, before := m.wall.off(m.began)
	_, gained := m.wall.off(now)
	return now.Sub(m.began) + gained - before
}

// How far clocks are set. The broker's are far enough apart for a checker to see which one a stamp is of, and longer than sessions
// may be idle. No clock is worse than worstDrift.
var (
	machineSteps = []time.Duration{-25 * time.Hour, -time.Hour, -30 * time.Minute, -3 * time.Second, 3 * time.Second, 30 * time.Minute, 90 * time.Minute, 25 * time.Hour}
	brokerSteps  = []time.Duration{-25 * time.Hour, -5 * time.Hour, 5 * time.Hour, 25 * time.Hour}
)

const worstDrift = 200e-6

// setClock sets the clock of a process's machine, or the broker's.
func (w *world) setClock(f plannedFault) {
	r := rand.New(rand.NewPCG(w.plan.seed, uint64(f.at)))
	drift := worstDrift * (2*r.Float64() - 1)
	if f.kind == brokerClock {
		w.clocks.broker.set(pick(r, brokerSteps), drift)
		return
	}
	w.clocks.named(f.target).set(pick(r, machineSteps), drift)
}

// stamped are the times in the broker's answers, and the one in the subject that a delivery is acknowledged on.
var stamped = regexp.MustCompile(`"(?:ts|time|created|first_ts|last_ts)":"[0-9][^"]*"`)

const (
	brokerAnswer = `{"type":"io.nats.jetstream.api.v1.`
	stampHeader  = "\r\nNats-Time-Stamp: "
)

// restamp is a message of the broker as it would be if the broker's clock had been set: each stamp as far off as the clock was then.
func (c *clocks) restamp(m message) []byte {
	if !m.publishes || len(c.broker.steps()) == 0 {
		return m.bytes
	}
	shift := func(t time.Time) time.Time {
		off, _ := c.broker.off(t)
		return t.Add(off)
	}
	header, data, reply := m.header, m.data, m.reply
	if token := strings.Split(reply, "."); len(token) == 9 && strings.HasPrefix(reply, "$JS.ACK.") {
		ns, err := strconv.ParseInt(token[7], 10, 64)
		if err != nil {
			panic(err)
		}
		token[7] = strconv.FormatInt(shift(time.Unix(0, ns)).UnixNano(), 10)
		reply = strings.Join(token, ".")
	}
	text := func(s string) string {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			panic(err)
		}
		if t.IsZero() {
			return s
		}
		return shift(t).Format(time.RFC3339Nano)
	}
	if bytes.HasPrefix(data, []byte(brokerAnswer)) {
		data = stamped.ReplaceAllFunc(data, func(b []byte) []byte {
			key, value, _ := strings.Cut(string(b), ":")
			return fmt.Appendf(nil, "%s:%q", key, text(strings.Trim(value, `"`)))
		})
	}
	if before, rest, found := bytes.Cut(header, []byte(stampHeader)); found {
		value, rest, _ := bytes.Cut(rest, []byte("\r\n"))
		header = bytes.Join([][]byte{before, []byte(stampHeader), []byte(text(string(value))), []byte("\r\n"), rest}, nil)
	}
	return m.with(reply, header, data)
}
