//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tickTime is the unit of /proc: USER_HZ is 100 on every Linux that Go runs on.
const tickTime = 10 * time.Millisecond

// sample is one measurement with what it cost.
type sample struct {
	answer
	cpu   float64            // processor microseconds for one, over all processes
	by    map[string]float64 // the same by process; python are all descendants
	idle  float64            // share of the machine that nobody used
	other float64            // share that processes outside of the measurement used
}

// meter counts the processor time of processes and their descendants, from its making on.
type meter struct {
	pids       map[string][]int
	used       map[string]time.Duration
	busy, idle time.Duration
}

func newMeter(roots ...*process) *meter {
	m := &meter{pids: map[string][]int{}, used: map[string]time.Duration{}}
	for _, p := range roots {
		pids := family(p)
		m.pids[p.role] = append(m.pids[p.role], pids[0])
		m.pids["python"] = append(m.pids["python"], pids[1:]...)
	}
	for name, pids := range m.pids {
		m.used[name] = cpuTime(pids)
	}
	m.busy, m.idle = machineTime()
	return m
}

// read makes a sample of what happened since.
func (m *meter) read(a answer) sample {
	s := sample{answer: a, by: map[string]float64{}}
	var all time.Duration
	for name, pids := range m.pids {
		used := cpuTime(pids) - m.used[name]
		all += used
		s.by[name] = float64(used.Microseconds()) / float64(a.Count)
		s.cpu += s.by[name]
	}
	busy, idle := machineTime()
	busy, idle = busy-m.busy, idle-m.idle
	if whole := float64(busy + idle); whole > 0 {
		s.idle = float64(idle) / whole
		s.other = max(0, float64(busy-all)/whole)
	}
	return s
}

// measure has an agent carry out an order and counts what the given processes and their descendants use meanwhile.
func measure(ctx context.Context, agent *process, o order, all ...*process) (sample, error) {
	if !slices.Contains(all, agent) {
		all = append(all, agent)
	}
	m := newMeter(all...)
	a, err := agent.ask(ctx, o)
	if err != nil {
		return sample{}, err
	}
	if a.Count == 0 {
		return sample{}, fmt.Errorf("%s: nothing was done", o.Do)
	}
	return m.read(a), nil
}

// family returns a process and all its descendants.
func family(root *process) []int {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range dirs {
		f := statFields(path)
		if len(f) < 2 {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(f[1])
		children[parent] = append(children[parent], pid)
	}
	var all []int
	var add func(int)
	add = func(pid int) {
		all = append(all, pid)
		for _, c := range children[pid] {
			add(c)
		}
	}
	add(root.cmd.Process.Pid)
	return all
}

// statFields returns the fields of a stat file behind the command's name: state, parent, ...
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	text := string(b)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// cpuTime is the processor time that the processes have used so far, user and system.
func cpuTime(pids []int) time.Duration {
	ticks := 0
	for _, pid := range pids {
		f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if len(f) > 12 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			ticks += user + system
		}
	}
	return time.Duration(ticks) * tickTime
}

// machineTime is what all processors have done since the machine started.
func machineTime() (busy, idle time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, text := range strings.Fields(line)[1:9] { // guest time is part of user time
		n, _ := strconv.Atoi(text)
		if i == 3 || i == 4 { // idle, waiting for input or output
			idle += time.Duration(n) * tickTime
		} else {
			busy += time.Duration(n) * tickTime
		}
	}
	return busy, idle
}

// memory sums the resident and the proportional set size of processes, in MB.
func memory(pids []int) (rss, pss float64) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			kb, _ := strconv.ParseFloat(f[1], 64)
			switch f[0] {
			case "Rss:":
				rss += kb / 1024
			case "Pss:":
				pss += kb / 1024
			}
		}
	}
	return rss, pss
}
