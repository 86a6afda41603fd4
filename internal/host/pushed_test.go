package host_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/wire"
)

// pushing answers push_program and withdraw_program as a worker does: with the record that a client's argument `record` is.
var pushing = func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
	if c.Command != "push_program" && c.Command != "withdraw_program" {
		return frame.Frame{}, nil, false
	}
	var args struct {
		Record map[string]any `msgpack:"record" json:"record"`
	}
	var record any
	if err := wire.Decode(c.Args, &args); err == nil && args.Record != nil {
		record = args.Record
	}
	meta, err := wire.Encode(map[string]any{"program": map[string]any{"id": "qa:1", "record": record}})
	if err != nil {
		return frame.Frame{}, err, true
	}
	return frame.Frame{Type: frame.Result, Body: frame.ResultBody{Value: []byte{0xc0}, Meta: meta}.AppendBody(nil)}, nil, true
}

// programs are the PROGRAM frames that the worker got, in order.
func (p *pool) programs(t *testing.T) []string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
	for _, f := range p.told {
		if f.Type != frame.Program {
			continue
		}
		b, err := frame.ParseProgram(f.Body)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprintf("%s %d %x", b.ID, b.Version, b.Record))
	}
	return found
}

func TestAWorkerKnowsWhatWasPushedBeforeItsNextJob(t *testing.T) {
	dir := t.TempDir()
	y := start(t, dir)
	y.pool.mu.Lock()
	y.pool.hook = pushing
	y.pool.mu.Unlock()
	is := func(want ...string) {
		t.Helper()
		y.call("dspex.rpc.session.a", "", echo)
		y.call("dspex.rpc.anonymous", "", echo)
		if got := y.pool.programs(t); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	is()
	for range 2 { // the second time nothing changes
		if r := y.call("dspex.rpc.admin.anonymous", "", `{"command": "push_program", "args": {"record": {"v": 1}}}`); !r.OK {
			t.Fatalf("%+v", r)
		}
		is("qa:1 1 81a17601")
	}
	y.call("dspex.rpc.admin.anonymous", "", `{"command": "push_program", "args": {"record": {"v": 2}}}`)
	is("qa:1 1 81a17601", "qa:1 2 81a17602")
	y.call("dspex.rpc.admin.anonymous", "", `{"command": "withdraw_program", "args": {}}`)
	is("qa:1 1 81a17601", "qa:1 2 81a17602", "qa:1 3 ")
	y.call("dspex.rpc.admin.anonymous", "", `{"command": "push_program", "args": {"record": {"v": 4}}}`)
	y.close()

	y = start(t, dir) // another host, whose first job finds it
	is("qa:1 4 81a17604")
}

func TestNoOtherCommandOfAWorkerPushesPrograms(t *testing.T) {
	y := start(t, t.TempDir())
	y.pool.mu.Lock()
	y.pool.hook = func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		c.Command = "push_program"
		return pushing(ctx, c)
	}
	y.pool.mu.Unlock()
	for _, subject := range []string{"dspex.rpc.anonymous", "dspex.rpc.session.a"} {
		y.call(subject, "", `{"command": "of_the_module", "args": {"record": {"v": 1}}}`)
	}
	y.call("dspex.rpc.anonymous", "", echo)
	if got := y.pool.programs(t); len(got) > 0 {
		t.Errorf("told %q", got)
	}
}
