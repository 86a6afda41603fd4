package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
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

func TestARecordOfANewerVersionIsLeftAlone(t *testing.T) {
	y := start(t, t.TempDir())
	rev := y.putRecord("future", wire.AppendUint(wire.AppendArray(nil, 1), 1000))
	m := &nats.Msg{Subject: "dspex.rpc.session.future", Data: []byte(echo)}
	if r, err := y.nc.RequestMsg(m, 3*time.Second); err == nil {
		t.Errorf("answered: %s", r.Data)
	}
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(context.Background(), stream.Sessions)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(context.Background(), "s.future"); err != nil || e.Revision() != rev {
		t.Errorf("the record was touched: %v %v", e, err)
	}
	if n := y.pool.runs.Load(); n != 0 {
		t.Errorf("%d runs", n)
	}
}
