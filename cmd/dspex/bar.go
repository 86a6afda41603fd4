package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// bar redraws one line of standard error while something counts up; without a terminal it does nothing.
type bar struct {
	done chan struct{}
	end  sync.WaitGroup
}

const (
	barEvery = 100 * time.Millisecond
	barWidth = 30
)

func (a *app) startBar(what string, total int, count func() int) *bar {
	b := &bar{done: make(chan struct{})}
	if !isTerminal(a.err) || a.env("TERM") == "dumb" {
		return b
	}
	b.end.Go(func() {
		tick := time.NewTicker(barEvery)
		defer tick.Stop()
		for {
			n := count()
			full := barWidth * n / total
			fmt.Fprintf(a.err, "\r\x1b[2K[%s%s] %d/%d %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), n, total, what)
			select {
			case <-b.done:
				fmt.Fprint(a.err, "\r\x1b[2K")
				return
			case <-tick.C:
			}
		}
	})
	return b
}

// stop removes the bar and waits until nothing draws any more.
func (b *bar) stop() {
	close(b.done)
	b.end.Wait()
}
