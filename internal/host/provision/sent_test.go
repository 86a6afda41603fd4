package provision

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/frame"
)

// TestAPushedProgramIsOursInControl: the dispatcher, which reads no frames, would name it as foreign else.
func TestAPushedProgramIsOursInControl(t *testing.T) {
	for _, b := range []frame.ProgramBody{{ID: "qa", Version: 1, Record: []byte{0x80}}, {ID: "qa.b", Version: 2}} {
		if !control.Ours(pushedKey(b.ID), b.AppendBody(nil)) {
			t.Errorf("%+v is taken for foreign", b)
		}
	}
}

// sending collects what workers are sent.
type sending struct {
	mu  sync.Mutex
	all []string
}

func (t *sending) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, what)
}

func (t *sending) send(b frame.ProgramBody) error {
	t.add(fmt.Sprintf("%s %d", b.ID, b.Version))
	return nil
}

func TestWhatWasStoredLastCounts(t *testing.T) {
	var p pushed
	var sent sending
	is := func(want ...string) {
		t.Helper()
		if err := p.send(1, sent.send); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sent.all, want) {
			t.Errorf("sent %q, want %q", sent.all, want)
		}
		sent.all = nil
	}
	p.put(frame.ProgramBody{ID: "qa", Version: 3}, 40)
	is("qa 3")
	p.put(frame.ProgramBody{ID: "qa", Version: 2}, 30) // comes late
	is()
	p.put(frame.ProgramBody{ID: "qa", Version: 1}, 1<<24) // the bucket was lost, and no process had a copy
	is("qa 1")
	p.remove(pushedKey("qa"), 1<<24+1)
	is("qa 1")
	p.remove(pushedKey("other"), 1<<24+2)
	is()
	if err := p.send(2, func(frame.ProgramBody) error { return errors.New("full") }); err == nil {
		t.Error("a worker that could not be told counts as told")
	}
	if err := p.send(2, sent.send); err != nil || len(sent.all) != 1 {
		t.Errorf("%v, sent %q", err, sent.all)
	}
}

func TestNoJobBeginsBeforeWhatAnotherOneTellsItsWorker(t *testing.T) {
	var p pushed
	p.put(frame.ProgramBody{ID: "qa", Version: 1}, 1)
	overtakes(t, "program", func(send func() error) error {
		return p.send(1, func(frame.ProgramBody) error { return send() })
	})
	var k sentProfiles
	overtakes(t, "model", func(send func() error) error { return k.send(1, "key", send) })
}

// overtakes has two jobs send their worker the same.
func overtakes(t *testing.T, what string, send func(func() error) error) {
	t.Helper()
	var sent sending
	entered := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-entered
		if err := send(func() error { sent.add("twice"); return nil }); err != nil {
			t.Error(err)
		}
		sent.add("second call")
	})
	err := send(func() error {
		close(entered)
		for range 10_000 { // the other one has time to overtake
			runtime.Gosched()
		}
		sent.add("sent")
		return nil
	})
	wg.Wait()
	if err != nil || !slices.Equal(sent.all, []string{"sent", "second call"}) {
		t.Errorf("%s: %v, %q", what, err, sent.all)
	}
}
