package batches

import (
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Request is what an endpoint got.
type Request struct {
	Tenant string
	Type   string // content type
	Body   []byte
	Trace  string // traceparent, "" if there is none
}

// Answer is what a request gets: a result, or an error and the jobs that it is about.
type Answer struct {
	Result  []byte // MessagePack
	Err     *jobs.Error
	Invalid []Invalid
}

// Body is the answer on the wire.
func (a Answer) Body() []byte {
	var out []byte
	if a.Err != nil {
		out = (&jobs.Reply{Err: a.Err}).Append(nil)
	} else {
		out = wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 2), "ok"), true)
		out = append(wire.AppendStr(out, "result"), a.Result...)
	}
	if len(a.Invalid) == 0 {
		return out
	}
	in := wire.NewReader(out)
	n, _ := in.Map()
	with := wire.AppendMap(nil, n+1)
	with = wire.AppendArray(wire.AppendStr(with, "invalid"), len(a.Invalid))
	for _, i := range a.Invalid {
		with = wire.AppendMap(with, 2)
		with = append(wire.AppendStr(with, "error"), errorOf(i.Err)...)
		with = wire.AppendInt(wire.AppendStr(with, "index"), int64(i.Index))
	}
	return append(with, in.Rest()...)
}

// errorOf is an error as replies have it.
func errorOf(e *jobs.Error) []byte {
	in := wire.NewReader((&jobs.Reply{Err: e}).Append(nil))
	_, _ = in.Map()
	_, _ = in.Str() // "error" is the first key
	raw, _ := in.Raw()
	return raw
}

func refused(e *jobs.Error) Answer { return Answer{Err: e} }
