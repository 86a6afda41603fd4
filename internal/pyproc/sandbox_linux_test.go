package pyproc

import (
	"testing"
	"time"

	"github.com/dspex/dspex/internal/sandbox"
)

// BenchmarkFork is a fork up to READY, at each level that this machine can give.
func BenchmarkFork(b *testing.B) {
	for _, level := range []string{"none", "user", "strict"} {
		b.Run(level, func(b *testing.B) {
			box, err := sandbox.Options{Level: level}.Open(nil, []string{"../../python"})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { box.Close() })
			cfg := pythonConfig(b, true, nil)
			cfg.Env, cfg.Scratch = append(cfg.Env, box.Environ()...), box.Scratch
			if box.Exchange != nil {
				cfg.Channel = box.Exchange.Open
			}
			ready := make(chan struct{}, 64)
			cfg.OnEvent = func(e Event) {
				if e.From == Warming {
					ready <- struct{}{}
				}
			}
			p, halt := runPool(b, cfg)
			<-ready
			var took time.Duration
			for b.Loop() {
				s, err := p.Checkout(b.Context(), 0)
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				_, _ = s.Call(b.Context(), pyCall("exit", map[string]any{"code": 0}), nil)
				s.Release()
				<-ready
				took += time.Since(began)
			}
			b.ReportMetric(float64(took.Microseconds())/float64(b.N), "us/replacement")
			halt()
		})
	}
}
