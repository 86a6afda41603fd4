package pyproc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// protoVersion is the version of contract/frame.md.
const protoVersion = 1

func (p peer) protocolError(problem string, err error) *ProtocolError {
	return &ProtocolError{Worker: p.Name, Problem: problem, Err: err}
}

// handshake brings a started worker to READY.
func (w *worker) handshake(ctx context.Context) error {
	began := time.Now()
	limit := w.pool.cfg.StartTimeout
	f, err := w.next(ctx, frame.Hello, min(handshakeTimeout, limit))
	if err != nil {
		return err
	}
	if err := w.greet(f); err != nil {
		return err
	}
	if f, err = w.next(ctx, frame.Ready, limit-time.Since(began)); err != nil {
		return err
	}
	return w.welcome(f)
}

// greet checks HELLO and answers with INIT.
func (w *worker) greet(f frame.Frame) error {
	hello, err := w.checkHello(w.nonce, f)
	if err != nil {
		return err
	}
	body, err := w.pool.initBody(w.Name)
	if err != nil {
		return err
	}
	w.pool.mu.Lock()
	w.hello = hello
	w.pool.moveLocked(w.supervisor, Warming, nil)
	w.pool.mu.Unlock()
	_ = w.out.send(frame.Init, 0, body) // if the pipe fails so does the wait for READY
	return nil
}

// checkHello reads HELLO and refuses a process that is another or has another protocol.
func (p peer) checkHello(nonce string, f frame.Frame) (frame.HelloBody, error) {
	hello, err := frame.ParseHello(f.Body)
	if err != nil {
		return hello, p.protocolError("unreadable HELLO", err)
	}
	if protoVersion < hello.ProtoMin || protoVersion > hello.ProtoMax {
		return hello, &VersionError{
			Worker: p.Name, HostVersion: protoVersion, WorkerMin: hello.ProtoMin, WorkerMax: hello.ProtoMax,
			RuntimeVersion: hello.RuntimeVersion, RuntimeHash: hello.RuntimeHash,
		}
	}
	if hello.Nonce != nonce {
		return hello, p.protocolError("HELLO must repeat DSPEX_NONCE: it comes from another process", nil)
	}
	return hello, nil
}

// initBody is the body of INIT for the worker of that name.
func (p *Pool) initBody(name string) ([]byte, error) {
	init := frame.InitBody{Proto: protoVersion}
	if p.cfg.Init != nil {
		init.Config = p.cfg.Init(name)
	}
	body := init.AppendBody(nil)
	if most := p.cfg.MaxFrame; len(body) > most {
		return nil, &TooLargeError{Size: len(body), Max: most}
	}
	return body, nil
}

// welcome checks READY and lets the worker take calls.
func (w *worker) welcome(f frame.Frame) error {
	ready, err := frame.ParseReady(f.Body)
	if err != nil {
		return w.protocolError("unreadable READY", err)
	}
	if ready.Slots < 1 || ready.Slots > maxSlots {
		return w.protocolError(fmt.Sprintf("READY must have 1 to %d slots, got %d", maxSlots, ready.Slots), nil)
	}
	exclusive := map[string]bool{}
	for _, command := range ready.Exclusive {
		exclusive[command] = true
	}
	w.rss.Store(ready.RSSBytes)
	w.pool.mu.Lock()
	w.ready, w.exclusive = ready, exclusive
	w.pool.mu.Unlock()
	w.pool.arrive(w)
	return nil
}

// errEnded reports that the worker ended while something was expected of it.
var errEnded = errors.New("ended")

// next waits for a frame of the connection that must be of type t.
func (w *worker) next(ctx context.Context, t frame.Type, limit time.Duration) (frame.Frame, error) {
	f, err := w.nextOf(ctx, w.control, w.read, t, limit)
	if errors.Is(err, errEnded) && proc.IsClosed(w.read) && w.readErr != nil {
		return f, w.readErr
	}
	return f, err
}

// nextOf waits for a frame in control that must be of type t. read is closed when no more will come.
func (p peer) nextOf(ctx context.Context, control <-chan frame.Frame, read <-chan struct{}, t frame.Type, limit time.Duration) (frame.Frame, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case f := <-control:
		return p.expect(f, t)
	case <-read:
		select { // what it sent before it closed the pipe
		case f := <-control:
			return p.expect(f, t)
		default:
			return frame.Frame{}, errEnded
		}
	case <-p.Exited:
		return frame.Frame{}, errEnded
	case <-timer.C:
		return frame.Frame{}, &HungError{Worker: p.Name, Waited: limit, For: t.String()}
	case <-ctx.Done():
		return frame.Frame{}, ErrStopped
	}
}

func (p peer) expect(f frame.Frame, t frame.Type) (frame.Frame, error) {
	switch f.Type {
	case t:
		return f, nil
	case frame.Error:
		b, err := frame.ParseError(f.Body)
		if err != nil {
			return f, p.protocolError("unreadable ERROR", err)
		}
		return f, &reported{b}
	}
	return f, p.protocolError(fmt.Sprintf("expected %s, got %s", t, f.Type), nil)
}
