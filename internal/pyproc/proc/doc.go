// Package proc is a process of a pool as the operating system has it: how it is started, its pipes, what it prints, its memory, where
// its threads stand, and its end. It is independent of frames, workers and pools.
package proc
