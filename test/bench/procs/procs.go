//go:build linux

// Package procs reads what processes use, from /proc.
package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tickTime is the unit of /proc: USER_HZ is 100 on every Linux that Go runs on.
const tickTime = 10 * time.Millisecond

// Family returns a process and all its descendants.
func Family(root int) []int {
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
	add(root)
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

// CPUTime is the processor time that the processes have used so far, user and system.
func CPUTime(pids []int) time.Duration {
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

// MachineTime is what all processors have done since the machine started.
func MachineTime() (busy, idle time.Duration) {
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

// Memory sums the resident and the proportional set size of processes, in MB.
func Memory(pids []int) (rss, pss float64) {
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

// SendQueues sums what the kernel keeps for clients of a port that have not read it, in MB.
func SendQueues(port int) (mb float64) {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0
	}
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasSuffix(f[1], local) {
			continue
		}
		queue, _, _ := strings.Cut(f[4], ":")
		n, _ := strconv.ParseInt(queue, 16, 64)
		mb += float64(n) / (1 << 20)
	}
	return mb
}
