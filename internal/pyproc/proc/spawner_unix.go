//go:build linux || darwin

package proc

import (
	"os"
)

// SpawnBare starts a process without pipes for frames: file is its descriptor 3.
func (s *Spawner) SpawnBare(sp Spec, file *os.File) (*Child, error) {
	return s.start(sp, func() (*Child, error) {
		p, err := openLogPipes()
		defer p.CloseWorkerEnds()
		var process *os.Process
		if err == nil {
			process, err = run(sp, p, []*os.File{file})
		}
		if err != nil {
			p.CloseHostEnds()
			return nil, err
		}
		c := &Child{PID: process.Pid, Stdout: p.stdout[0], Stderr: p.stderr[0]}
		control(c, process)
		return c, nil
	})
}
