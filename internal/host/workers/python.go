package workers

import (
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc"
)

// Python makes a pool of Python workers a Pool.
func Python(p *pyproc.Pool) Pool { return pythonPool{p} }

type pythonPool struct{ *pyproc.Pool }

func (p pythonPool) Checkout(want Want, wait Wait) (Slot, error) {
	options := []pyproc.Option{pyproc.Turn(want.Turn)}
	if want.Alone {
		options = append(options, pyproc.Alone)
	}
	if want.Avoid != "" {
		options = append(options, pyproc.Avoid(want.Avoid))
	}
	s, err := p.CheckoutFunc(want.Prefer, wait, options...)
	if err != nil {
		return nil, err
	}
	return pythonSlot{s}, nil
}

func (p pythonPool) Workers() Counts {
	st := p.Stats()
	found := Counts{Size: st.Size, Overflow: st.Overflow}
	for _, w := range st.Workers { // those of a burst count only as far as others are missing
		if w.State.Serving() && found.Active < st.Size {
			found.Active++
			if w.InFlight < w.Slots {
				found.Available++
			}
		}
	}
	return found
}

// EngineOf returns the engine of a pool's workers, "" while none has started.
func EngineOf(p *pyproc.Pool) func() string {
	return func() string {
		for _, w := range p.Stats().Workers {
			if w.Engine != "" {
				return engineName(w.Engine, w.EngineVersion)
			}
		}
		return ""
	}
}

func engineName(name, version string) string {
	if version == "" {
		return name
	}
	return name + " " + version
}

type pythonSlot struct{ *pyproc.Slot }

func (s pythonSlot) Engine() string { return engineName(s.Slot.Engine(), s.EngineVersion()) }

func (s pythonSlot) Call(body []byte, partial func([]byte), wait Wait) (frame.Frame, error) {
	return s.CallFunc(body, partial, wait)
}
