package cli

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

// BarEvery is the time between two drawings of a bar; ClearLine empties its line.
const (
	BarEvery  = 100 * time.Millisecond
	ClearLine = "\r\x1b[2K"
	barWidth  = 30
)

// BarOf is the bar of something that is done n times of many.
func BarOf(n, of uint64, what string) string {
	full := barWidth
	if n < of {
		full = int(barWidth * n / of) //nolint:gosec // less than the width
	}
	return fmt.Sprintf("[%s%s] %d/%d %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), n, of, what)
}

// StartBar draws a line from now on, such as BarOf of what another goroutine moves.
func (a *App) StartBar(line func() string) *bar {
	b := &bar{done: make(chan struct{})}
	if !IsTerminal(a.Err) || a.Env("TERM") == "dumb" {
		return b
	}
	b.end.Go(func() {
		tick := time.NewTicker(BarEvery)
		defer tick.Stop()
		for {
			fmt.Fprint(a.Err, ClearLine+line())
			select {
			case <-b.done:
				fmt.Fprint(a.Err, ClearLine)
				return
			case <-tick.C:
			}
		}
	})
	return b
}

// Stop removes the bar and waits until nothing draws any more.
func (b *bar) Stop() {
	close(b.done)
	b.end.Wait()
}
