package procs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dspex/dspex"
)

// meeting answers once as many jobs run at once as are expected: no job of fewer ends.
const meeting = `
import asyncio
import os

from dspex_worker import command


@command
async def meet(place: str, name: str, expected: int) -> bool:
    os.makedirs(place, exist_ok=True)
    open(os.path.join(place, name), "w").close()
    while len(os.listdir(place)) < expected:
        await asyncio.sleep(0.01)
    return True
`

func TestJobsRunAtOnceInAllSlotsAndInAllOverflowWorkers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "meeting.py"), []byte(meeting), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                                 string
		hosts, workers, slots, overflow, job int
	}{
		{"sixteen slots", 1, 4, 4, 0, 16},
		{"two hosts", 2, 2, 4, 0, 16},
		{"one and one in overflow", 1, 1, 1, 1, 2},
		{"two and four in overflow", 1, 2, 1, 4, 6},
		{"two hosts with overflow", 2, 1, 1, 2, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := deploy(t)
			d.start("dispatcher", "d1")
			for n := range c.hosts {
				d.host(fmt.Sprint("h", n), "--import", "meeting", "--path", dir, "--sandbox", "none", "--workers", fmt.Sprint(c.workers), "--slots", fmt.Sprint(c.slots),
					"--overflow", fmt.Sprint(c.overflow)).awaitReady()
			}
			client := d.client()
			d.awaitWorkers(client, c.hosts*c.workers)
			for _, kind := range []string{"anonymous", "session"} {
				if kind == "session" && c.hosts > 1 {
					continue // where a session runs is not the job's choice
				}
				t.Run(kind, func(t *testing.T) { meetAll(t, client, kind, c.job) })
			}
			stats, err := client.Stats(t.Context())
			switch {
			case err != nil:
				t.Errorf("err must be nil, got %v; %+v %v", err, stats, err)
			case stats.OverflowWorkers != c.hosts*c.overflow:
				t.Errorf("stats.OverflowWorkers: got %v, want %v; %+v %v", stats.OverflowWorkers, c.hosts*c.overflow, stats, err)
			case stats.PoolSize != c.hosts*c.workers:
				t.Errorf("stats.PoolSize: got %v, want %v; %+v %v", stats.PoolSize, c.hosts*c.workers, stats, err)
			case stats.ActiveWorkers != stats.PoolSize:
				t.Errorf("stats.ActiveWorkers: got %v, want %v; %+v %v", stats.ActiveWorkers, stats.PoolSize, stats, err)
			}
		})
	}
}

// meetAll calls n jobs that end together or not at all.
func meetAll(t *testing.T, c *dspex.Client, kind string, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	place := filepath.Join(t.TempDir(), "meeting")
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			args := dspex.Args{"place": place, "name": fmt.Sprint(i), "expected": n}
			var err error
			if kind == "session" {
				_, err = c.Execute(ctx, fmt.Sprint("meets_", i), "meet", args)
			} else {
				_, err = c.ExecuteAnonymous(ctx, "meet", args)
			}
			if err != nil {
				t.Errorf("job %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// awaitWorkers waits until that many workers serve.
func (d *deployment) awaitWorkers(c *dspex.Client, n int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	for {
		stats, err := c.Stats(ctx)
		if ctx.Err() != nil {
			d.t.Fatalf("%+v %v", stats, err)
		}
		if err == nil && stats.ActiveWorkers == n {
			return
		}
	}
}
