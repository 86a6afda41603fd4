package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// ownMemory returns the bytes that only this process has in memory. It is 0 if that cannot be measured, or if all memory of the process,
// shared pages included, is less than atLeast: the exact answer makes the kernel walk every page table entry.
func ownMemory(pid int, atLeast uint64) uint64 {
	if resident(pid) < atLeast {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	own := uint64(0)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) == 3 && bytes.HasPrefix(fields[0], []byte("Private_")) {
			kib, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			own += kib << 10
		}
	}
	return own
}

func resident(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}

// offerToTheKernel has a worker go before its host does when memory runs out. A sandboxed worker cannot do so itself.
func offerToTheKernel(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("500"), 0) // it may have ended; nothing but its place in a queue depends on it
}

// ParentOf reports which process is another's parent, 0 if that is unknown.
func ParentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text[max(bytes.LastIndexByte(text, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest) // state, parent
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
