//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Bounds of the part bulkkill.
const (
	killPause    = 4 * time.Second // between two kills
	killSessions = 500
	killLasts    = 30 * time.Minute
	killLater    = time.Second // a client that failed because a server was away is started again
)

// killed is a deployment whose processes are killed in turn, and started again at once.
type killed struct {
	o       *options
	url     string
	procs   map[string]*process
	argv    map[string][]string
	kills   map[string]int
	retries int // times that the client ended with an error
}

// victims in the order of their deaths.
var victims = []string{"client", "dispatcher", "host-1", "broker", "host-2"}

// measureBulkKill runs a batch while each process of the deployment is killed in turn, until its results are there.
func measureBulkKill(ctx context.Context, o *options, r *report) error {
	k, jobs, want, err := newKilled(ctx, o)
	if k != nil {
		defer k.stop()
	}
	if err != nil {
		return err
	}
	began := time.Now()
	got := filepath.Join(o.dir, "results.csv")
	k.argv["client"] = []string{filepath.Join(o.bin, "dspex"), "batch", "submit", jobs, "--id", "killed", "--server", k.url, "--out", got,
		"--column", "index,id,outcome,list=result.list,text=result.text"}
	if err := k.start("client"); err != nil {
		return err
	}
	if err := k.untilDone(ctx, began); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	equal, lines, err := compareFiles(want, got)
	if err != nil {
		return err
	}
	again, err := k.ranAgain()
	if err != nil {
		return err
	}
	var row []string
	for _, name := range victims {
		row = append(row, strconv.Itoa(k.kills[name]))
	}
	r.head(fmt.Sprintf("bulkkill: a batch of %d jobs, one process killed every %v", o.bulk, killPause),
		append([]string{"seconds", "jobs that ran more than once", "client failed", "killed: " + victims[0]}, victims[1:]...)...)
	r.line(append([]string{number(took), strconv.Itoa(again), strconv.Itoa(k.retries)}, row...)...)
	r.tail()
	r.judge("bulkkill", "lines of the results, of the jobs", "", "<=", 1, []float64{float64(lines) / float64(o.bulk)})
	r.judge("bulkkill", "lines that are as expected, of the jobs", "", ">=", 1, []float64{float64(equal) / float64(o.bulk)})
	return nil
}

func newKilled(ctx context.Context, o *options) (k *killed, jobs, want string, err error) {
	jobs, want = filepath.Join(o.dir, "killed.jsonl"), filepath.Join(o.dir, "expected.csv")
	if err := writeKilled(jobs, want, o.bulk); err != nil {
		return nil, "", "", err
	}
	store, err := os.MkdirTemp(o.dir, "killed")
	if err != nil {
		return nil, "", "", err
	}
	k = &killed{o: o, procs: map[string]*process{}, argv: map[string][]string{}, kills: map[string]int{}}
	k.argv["broker"] = []string{o.self, "role", "broker", "-dir", store}
	if err := k.start("broker"); err != nil {
		return k, "", "", err
	}
	if k.url, err = k.procs["broker"].await(ctx, k.procs["broker"].lines, "ready "); err != nil {
		return k, "", "", err
	}
	k.argv["broker"] = append(k.argv["broker"], "-listen", strings.TrimPrefix(k.url, "nats://"))
	k.argv["dispatcher"] = []string{filepath.Join(o.bin, "dispatcher"), "--server", k.url, "--name", "bench"}
	for _, name := range []string{"host-1", "host-2"} {
		k.argv[name] = []string{filepath.Join(o.bin, "worker-host"), "--server", k.url, "--name", name, "--workers", "1", "--slots", "16", "--engine", "stub", "--python", o.python}
	}
	for _, name := range []string{"host-1", "host-2", "dispatcher"} {
		if err := k.start(name); err != nil {
			return k, "", "", err
		}
	}
	_, err = k.procs["dispatcher"].await(ctx, k.procs["dispatcher"].lines, "ready")
	return k, jobs, want, err
}

func (k *killed) start(name string) (err error) {
	k.procs[name], err = start(k.o, -1, "killed-"+name, k.argv[name]...)
	return err
}

func (k *killed) stop() {
	for _, name := range []string{"client", "host-1", "host-2", "dispatcher", "broker"} {
		k.procs[name].stop()
	}
}

// untilDone kills until the client has written the results.
func (k *killed) untilDone(ctx context.Context, began time.Time) error {
	for n := 0; ; n++ {
		client := k.procs["client"]
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-client.ended:
			if client.cmd.ProcessState.Success() {
				return nil
			}
			if client.cmd.ProcessState.ExitCode() == 1 { // refused, or a job has not succeeded
				return fmt.Errorf("the client failed: %s", client.tail())
			}
			k.retries++
			<-time.After(killLater)
			if err := k.start("client"); err != nil {
				return err
			}
			n--
			continue
		case <-time.After(killPause):
		}
		if time.Since(began) > killLasts {
			return fmt.Errorf("the batch has not ended within %v: %s", killLasts, client.tail())
		}
		name := victims[n%len(victims)]
		_ = k.procs[name].cmd.Process.Kill()
		<-k.procs[name].ended
		k.kills[name]++
		if err := k.start(name); err != nil {
			return err
		}
	}
}

// ranAgain is how many jobs had more than one attempt.
func (k *killed) ranAgain() (again int, err error) {
	nc, err := nats.Connect(k.url)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	file := filepath.Join(k.o.dir, "attempts.csv")
	p, err := start(k.o, -1, "killed-results", filepath.Join(k.o.bin, "dspex"), "batch", "results", "killed", "--server", k.url, "--column", "attempts", "--out", file)
	if err != nil {
		return 0, err
	}
	<-p.ended
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if n, bad := strconv.Atoi(strings.TrimSpace(line)); bad == nil && n > 1 {
			again++
		}
	}
	return again, err
}

// writeKilled writes jobs and what must come of them. One in two is in a session, whose list reports which of its jobs ran before, and in which
// order.
func writeKilled(jobs, want string, size int) error {
	in, err := os.Create(jobs)
	if err != nil {
		return err
	}
	out, err := os.Create(want)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	i, o := bufio.NewWriter(in), bufio.NewWriter(out) // their errors stay until Flush
	_, _ = fmt.Fprintln(o, "index,id,outcome,list,text")
	lists := make([]string, killSessions)
	for n := range size {
		if n%2 == 0 {
			s := n / 2 % killSessions
			lists[s] = strings.TrimPrefix(lists[s]+","+strconv.Itoa(n), ",")
			_, _ = fmt.Fprintf(i, `{"id": "row-%d", "session": "killed_%d", "command": "append", "args": {"x": %d}, "options": {"max_retries": 20}}`+"\n", n, s, n)
			cell := "[" + lists[s] + "]"
			if strings.Contains(cell, ",") {
				cell = `"` + cell + `"`
			}
			_, _ = fmt.Fprintf(o, "%d,row-%d,succeeded,%s,\n", n, n, cell)
			continue
		}
		_, _ = fmt.Fprintf(i, `{"id": "row-%d", "command": "echo", "args": {"text": "row %d"}, "options": {"max_retries": 20}}`+"\n", n, n)
		_, _ = fmt.Fprintf(o, "%d,row-%d,succeeded,,row %d\n", n, n, n)
	}
	return errors.Join(i.Flush(), o.Flush(), in.Close(), out.Close())
}

// compareFiles counts the lines of results, and those that are as expected in their place. Of the others it names the first one.
func compareFiles(want, got string) (equal, lines int, err error) {
	w, err := os.Open(want)
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return 0, 0, err
	}
	defer g.Close()
	expected, is := bufio.NewReader(w), bufio.NewReader(g)
	for line := -1; ; line++ { // the first one has the names
		a, err := is.ReadString('\n')
		if err == io.EOF && a == "" {
			return equal, lines, nil
		}
		b, _ := expected.ReadString('\n')
		if line >= 0 {
			lines++
		}
		switch {
		case a == b && line >= 0:
			equal++
		case a != b && equal >= lines-1:
			fmt.Fprintf(os.Stderr, "line %d: expected %.200q, got %.200q\n", line, b, a)
		}
	}
}
