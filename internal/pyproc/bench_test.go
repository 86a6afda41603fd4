//go:build linux || darwin

package pyproc

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

var benchSizes = []struct {
	name string
	args int // bytes
}{{"100B", 60}, {"10KB", 10 << 10}, {"1MB", 1 << 20}}

func benchBody(size int) []byte {
	args := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "text"), string(bytes.Repeat([]byte{'x'}, size)))
	return frame.CallBody{Command: "echo", Args: args, Job: "j"}.AppendBody(nil)
}

// BenchmarkCall measures one call at a time. Compare with BenchmarkRawEcho of the same run: absolute times are the
// machine's, and of two processors mostly the time to wake the other.
func BenchmarkCall(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			p, _ := runPool(b, testConfig(""))
			body := benchBody(size.args)
			checkout(b, p).Release()
			b.ReportAllocs()
			cpu := cpuOfProcess()
			for b.Loop() {
				s, err := p.Checkout(b.Context(), 0)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Call(b.Context(), body, nil); err != nil {
					b.Fatal(err)
				}
				s.Release()
			}
			reportCPU(b, cpu)
		})
	}
}

// BenchmarkRawEcho sends the same bytes through the same pipes to a process that copies its input, and reads them back.
func BenchmarkRawEcho(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			c, err := proc.Start(proc.Spec{Command: []string{os.Args[0]}, Env: []string{"DSPEX_TEST=cat"}})
			if err != nil {
				b.Fatal(err)
			}
			body := append(make([]byte, 16), benchBody(size.args)...)
			answer := make([]byte, len(body))
			b.ReportAllocs()
			cpu := cpuOfProcess()
			for b.Loop() {
				if len(body) > 64<<10 {
					go c.ToWorker.Write(body) // more than may fit: both ends must move
				} else {
					c.ToWorker.Write(body)
				}
				if _, err := io.ReadFull(c.FromWorker, answer); err != nil {
					b.Fatal(err)
				}
			}
			reportCPU(b, cpu)
			closeChild(c)
		})
	}
}

func closeChild(c *proc.Child) {
	c.Signal(syscall.SIGKILL)
	c.Wait()
	c.Reap()
	for _, f := range []io.Closer{c.ToWorker, c.FromWorker, c.Stdout, c.Stderr} {
		f.Close()
	}
}

// cpuOfProcess is the processor time of this process without its workers.
func cpuOfProcess() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func reportCPU(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((cpuOfProcess()-before).Nanoseconds())/1000/float64(b.N), "host-cpu-us/op")
}
