//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
)

// faults is one of the three that break things side by side: one the brokers, one the dispatchers, one the hosts. Each breaks one
// thing at a time, and mends it before the next. What they do follows from the seed; when it strikes, from the machine, too.
type faults struct {
	d     *deployment
	r     *rand.Rand
	until time.Time

	mu     *sync.Mutex
	struck map[string]int
	what   *[3]string // what each of them is about, for people
	lane   int
}

// strike breaks things for the time of the flag; it returns how often each fault struck.
func (d *deployment) strike(clients []*client) map[string]int {
	var mu sync.Mutex
	struck, what, until := map[string]int{}, [3]string{}, time.Now().Add(*length)
	ctx, stop := context.WithCancel(context.Background())
	var shown, all sync.WaitGroup
	shown.Go(func() { progress(ctx, until, &mu, struck, &what, clients) })
	for lane, breakThings := range []func(*faults){(*faults).brokers, (*faults).dispatchers, (*faults).hosts} {
		all.Go(func() {
			breakThings(&faults{d: d, r: rand.New(rand.NewPCG(*seed, uint64(lane))), until: until, mu: &mu, struck: struck, what: &what, lane: lane})
		})
	}
	all.Wait()
	stop()
	shown.Wait()
	return struck
}

// between waits before the next fault; false: it is time to end.
func (f *faults) between(least, most time.Duration) bool {
	f.note("")
	wait(f.time(least, most))
	return time.Now().Before(f.until) && !f.d.t.Failed()
}

func (f *faults) time(least, most time.Duration) time.Duration {
	return least + time.Duration(f.r.Int64N(int64(most-least)))
}

// note records what is broken now; it counts a fault.
func (f *faults) note(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.what[f.lane] = kind
	if kind != "" {
		f.struck[kind]++
	}
}

func (f *faults) must(err error) {
	if err != nil {
		f.d.t.Error(err)
	}
}

func (f *faults) brokers() {
	for f.between(2*time.Second, 8*time.Second) {
		n := f.r.IntN(3)
		p := f.d.brokers[n]
		switch f.r.IntN(4) {
		case 0:
			f.note("broker killed")
			p.kill()
			wait(f.time(0, 6*time.Second))
			p.start()
		case 1:
			f.note("broker stopped for a moment")
			f.freeze(p, f.time(time.Second, 12*time.Second))
		case 2:
			f.note("broker cut off from the others")
			f.d.wall.Cut()
			wait(f.time(2*time.Second, 20*time.Second))
			f.d.wall.Mend()
		case 3:
			f.note("broker restarted")
			_ = p.stdin.Close()
			<-p.done
			p.start()
		}
		f.must(f.d.awaitBrokers()) // one at a time: a majority has all that was acknowledged
	}
}

func (f *faults) freeze(p *process, d time.Duration) {
	p.signal(syscall.SIGSTOP)
	wait(d)
	p.signal(syscall.SIGCONT)
}

func (f *faults) dispatchers() {
	for f.between(2*time.Second, 10*time.Second) {
		p := f.d.dispatchers[f.r.IntN(2)]
		switch f.r.IntN(4) {
		case 0:
			f.note("dispatcher killed")
			p.kill()
			wait(f.time(0, 4*time.Second))
			p.start()
		case 1:
			f.note("dispatcher stopped for a moment")
			f.freeze(p, f.time(time.Second, 15*time.Second))
		case 2:
			f.note("dispatcher restarted")
			f.must(p.stop())
			p.start()
		case 3:
			f.note("number of partitions changed")
			f.repartition(1 + f.r.IntN(32))
		}
		f.must(p.awaitReady())
		f.must(p.alive())
	}
}

// repartition does not wait for the change to end.
func (f *faults) repartition(n int) {
	f.must(eventually("another number of partitions", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := f.d.operator.Admin().SetPartitions(ctx, n)
		return err
	}))
}

func (f *faults) hosts() {
	for f.between(time.Second, 6*time.Second) {
		p := f.d.hosts[f.r.IntN(3)]
		switch f.r.IntN(5) {
		case 0:
			f.note("host killed")
			p.kill()
			wait(f.time(0, 8*time.Second))
			p.start()
		case 1:
			f.note("host stopped for a moment")
			f.freeze(p, f.time(time.Second, 25*time.Second))
			f.again(p)
		case 2:
			f.note("host restarted")
			f.must(p.stop())
			p.start()
		case 3:
			f.note("worker killed")
			if pids := p.workers(); len(pids) > 0 {
				if victim, err := os.FindProcess(pids[f.r.IntN(len(pids))]); err == nil {
					_ = victim.Kill()
				}
			}
		case 4:
			f.note("host drained")
			f.drain(p)
		}
		f.must(p.awaitReady())
		f.must(p.alive())
	}
}

// again starts a host that has ended, as its supervisor would.
func (f *faults) again(p *process) {
	if p.alive() != nil {
		p.start()
	}
}

func (f *faults) drain(p *process) {
	for _, change := range []func(context.Context, string) error{f.d.operator.Admin().DrainHost, f.d.operator.Admin().ResumeHost} {
		f.must(eventually("a drained host", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return change(ctx, p.name)
		}))
		wait(f.time(0, 3*time.Second))
	}
}

// heal waits until all runs again.
func (d *deployment) heal() {
	d.wall.Mend()
	for _, p := range append(append(append([]*process{}, d.brokers...), d.dispatchers...), d.hosts...) {
		if err := p.alive(); err != nil {
			d.t.Error(err)
			p.start()
		}
		d.must(p.awaitReady())
	}
	d.must(d.awaitBrokers())
}

// progress shows a line that changes while the run goes on; where nobody looks, one line a minute.
func progress(ctx context.Context, until time.Time, mu *sync.Mutex, struck map[string]int, what *[3]string, clients []*client) {
	pause, end := time.Minute, "\n"
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		pause, end = time.Second, "\r"
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		jobs, faults := int64(0), 0
		for _, c := range clients {
			jobs += c.done.Load()
		}
		mu.Lock()
		for _, n := range struck {
			faults += n
		}
		now := fmt.Sprintf("%s, %s, %s", orWell(what[0]), orWell(what[1]), orWell(what[2]))
		mu.Unlock()
		fmt.Printf("%6v left %8d jobs %5d faults   %-100s%s", max(time.Until(until), 0).Round(time.Second), jobs, faults, now, end)
	}
}

// wait lets time pass for processes that run by a real clock.
func wait(d time.Duration) { <-time.After(d) }

func orWell(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
