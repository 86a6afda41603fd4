package host_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// putRecord stores bytes as a session's record.
func (y *system) putRecord(session string, b []byte) uint64 {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	kv, err := js.KeyValue(context.Background(), stream.Sessions)
	if err != nil {
		y.t.Fatal(err)
	}
	rev, err := kv.Put(context.Background(), "s."+session, b)
	if err != nil {
		y.t.Fatal(err)
	}
	return rev
}

func TestAnUnreadableRecordIsAResetThatTheReplySays(t *testing.T) {
	y := start(t, t.TempDir())
	y.putRecord("torn", []byte("\xc1 no record"))
	if r := y.call("dspex.rpc.session.torn", "a", echo); !r.OK || r.Session.State != "reset" || string(r.Result) != `["a"]` {
		t.Errorf("%+v %s", r, r.Result)
	}
	if r := y.call("dspex.rpc.session.torn", "b", echo); !r.OK || r.Session.State != "warm" || string(r.Result) != `["a","b"]` {
		t.Errorf("afterwards: %+v %s", r, r.Result)
	}
}
