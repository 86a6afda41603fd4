package pyenv

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// What is kept of a program's output for the error that shows it.
const (
	tailLines = 25
	tailWidth = 400
)

// command is one program of the installation.
type command struct {
	argv []string
	env  []string
	dir  string
	lock *os.File // inherited, see acquire
}

// run runs the program to its end and hands each line of its output to line, which may be nil. It returns the last lines.
// When ctx ends the program and its children are killed.
func (c command) run(ctx context.Context, line func(string)) (string, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Dir = c.env, c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock}
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	read := make(chan []string)
	go func() { read <- readLines(r, line) }()
	err := cmd.Run()
	w.Close()
	tail := strings.Join(<-read, "\n")
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return tail, err
}

func readLines(r *io.PipeReader, line func(string)) []string {
	var tail []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		text := strings.TrimRight(in.Text(), " \r\t")
		if len(text) > tailWidth {
			text = strings.ToValidUTF8(text[:tailWidth], "") + "..."
		}
		if text == "" {
			continue
		}
		if tail = append(tail, text); len(tail) > tailLines {
			tail = tail[1:]
		}
		if line != nil {
			line(text)
		}
	}
	// A line beyond the scanner's limit must not block the program: the rest is read and dropped.
	_, _ = io.Copy(io.Discard, r)
	return tail
}
