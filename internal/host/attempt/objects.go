package attempt

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// objectTime bounds how long a slot is held for the storing of a result: broker restarts are shorter.
const objectTime = 30 * time.Second

// storeLarge stores a result that is too large for an outcome. The attempt succeeds only when all of it is stored: no outcome refers to
// what is not there. What an attempt has stored whose outcome does not count expires.
func storeLarge(a *Attempt, out *Output) {
	if out.Err != nil || fits(out.Value, a.Env.Type, a.r.On.MaxPayload) {
		return
	}
	data, kind := out.Value, jobs.MsgPack
	if a.Env.Type == jobs.JSON || jobs.OfBatch(a.Env.Job) { // who submits a batch reads JSON, in whatever form its jobs are published
		if text, err := wire.AppendJSON(nil, out.Value); err == nil {
			data, kind = text, jobs.JSON
		}
	}
	ref := jobs.NewObjectRef(rand.Text(), data, kind)
	ctx, cancel := context.WithTimeout(context.Background(), objectTime)
	defer cancel()
	stop := onGivingUp(a, cancel)
	defer stop()
	err := putObject(ctx, a, ref, data)
	if out.Object = ref; err == nil {
		return
	}
	out.Object = nil
	select {
	case <-a.gaveUp:
		out.GaveUp = true
	default:
		out.Err = notStored(err, len(data))
	}
}

func putObject(ctx context.Context, a *Attempt, ref *jobs.ObjectRef, data []byte) error {
	if err := a.r.On.Vault.Admit(ctx, a.Session.Tenant, len(data)); err != nil {
		return err
	}
	o := stream.Object{Name: a.Session.ObjectName(a.Env.Job, ref.ID), Size: ref.Size, Digest: ref.Digest, Type: ref.Type}
	return a.r.On.Vault.Put(ctx, o, data, jobs.ObjectTTL(a.Env.Mode, a.Env.Job))
}

// notStored returns what is to be done about a large result for which there is no place.
func notStored(err error, size int) *jobs.Error {
	switch {
	case errors.Is(err, stream.ErrObjectTooLarge):
		return jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the result has %d bytes: %v", size, err).
			WithHint("return less, or a reference of your own; operators: --object-max of the dispatcher")
	case errors.Is(err, stream.ErrObjectQuota):
		return jobs.Errorf(jobs.Resource, jobs.CodeQuota, "the result has %d bytes: %v", size, err).
			WithHint("large results are kept as long as their outcomes: wait until some expire, or erase sessions; operators: --tenant-objects of the dispatcher")
	case errors.Is(err, stream.ErrStoreFull):
		return jobs.Errorf(jobs.Resource, jobs.CodeStoreFull, "the store of large results is full").
			WithHint("operators: --objects-size of the dispatcher")
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the result has %d bytes and could not be stored: %v", size, err).Again()
}

// jsonGrowth is the most that a value grows from MessagePack to JSON: a control character becomes \u0000, false with its comma
// six bytes.
const jsonGrowth = 6

// fits reports whether a result has room in an outcome, and in the reply.
func fits(value []byte, contentType string, maxPayload int) bool {
	if len(value) > maxPayload/4 {
		return false
	}
	return replySize(value, contentType, maxPayload) <= maxPayload/2
}

// replySize is the size of a result in the reply. Only where JSON could make it too large is it spelled out.
func replySize(value []byte, contentType string, maxPayload int) int {
	if contentType != jobs.JSON || len(value) <= maxPayload/2/jsonGrowth {
		return len(value)
	}
	text, err := wire.AppendJSON(nil, value)
	if err != nil {
		return len(value) // it goes out as MessagePack
	}
	return len(text)
}

// LoadArgs reads the arguments that the request has by reference, and reports whether the attempt may go on. A retry, on whatever host,
// reads them again.
func LoadArgs(a *Attempt, out *Output) (ok bool) {
	if a.Req.Object == nil {
		return true
	}
	if a.loaded == nil { // else the call was stale, and is made again
		a.loaded, out.Err = load(a)
	}
	a.Req.Args = a.loaded
	select {
	case <-a.gaveUp:
		out.GaveUp = true
		return false
	default:
		return out.Err == nil
	}
}

func load(a *Attempt) ([]byte, *jobs.Error) {
	ctx, cancel := context.WithTimeout(context.Background(), objectTime)
	defer cancel()
	stop := onGivingUp(a, cancel)
	defer stop()
	ref := a.Req.Object
	data, err := a.r.On.Vault.Get(ctx, stream.Object{Name: a.Session.ObjectName("", ref.ID), Size: ref.Size, Digest: ref.Digest})
	if err != nil {
		return nil, notLoaded(err)
	}
	return ref.JoinArgs(a.Req.Args, data)
}

func notLoaded(err error) *jobs.Error {
	var e *jobs.Error
	switch {
	case errors.Is(err, stream.ErrNoObject):
		e = jobs.Errorf(jobs.Session, jobs.CodeObjectUnknown, "the arguments by reference are unknown").
			WithHint("uploads are kept for 7 days, and go with their session; upload them again and send the job under another id")
	case errors.Is(err, stream.ErrBadObject), errors.Is(err, stream.ErrObjectTooLarge):
		e = jobs.Errorf(jobs.Python, jobs.CodeBadInput, "the arguments by reference must match the reference: %v", err)
	default:
		return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the arguments by reference could not be read: %v", err).Again()
	}
	e.Path = "args_object"
	return e
}

// onGivingUp calls f if the call is given up before stop is called.
func onGivingUp(a *Attempt, f func()) (stop func()) {
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-a.gaveUp:
			f()
		case <-over:
		}
	})
	return func() { close(over); watch.Wait() }
}
