package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dspex/dspex"
)

const (
	batchID   = "demo"
	batchRows = 2000
	killAt    = batchRows / 10 // outcomes
)

// batch is a file of jobs that becomes a file of results, though a worker is killed in the middle.
func (d *demo) batch(ctx context.Context) error {
	in, out := filepath.Join(d.dir, "jobs.jsonl"), filepath.Join(d.dir, "results.jsonl")
	if err := writeJobs(in); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.note("\n  jobs.jsonl has %d lines. The first:\n    %s", batchRows, batchRow(0))
	d.note("\n  dspex batch submit jobs.jsonl --id %s --out results.jsonl", batchID)
	began := time.Now()
	submit := exec.CommandContext(ctx, self, "batch", "submit", in, "--id", batchID, "--out", out, "--server", d.info.URL)
	submit.Stderr = d.Err
	if err := submit.Start(); err != nil {
		return fmt.Errorf("start %s batch submit: %w", self, err)
	}
	harm := d.harmBatch(ctx)
	if err := errors.Join(submit.Wait(), harm); err != nil {
		return fmt.Errorf("dspex batch submit: %w", err)
	}
	last, again, err := readResults(out)
	if err != nil {
		return err
	}
	d.note("\n  results.jsonl has %d lines, in the order of the jobs, each once. The last:\n    %s", batchRows, shorten(last, 120))
	d.show("all succeeded in %.1f s, %d of them in a second attempt", time.Since(began).Seconds(), again)
	return nil
}

// harmBatch kills a worker when a part of the batch is done.
func (d *demo) harmBatch(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		b, err := d.c.GetBatch(ctx, batchID)
		switch e := (*dspex.Error)(nil); {
		case errors.As(err, &e) && e.Code == "batch_unknown": // not yet
		case err != nil:
			return err
		case b.Phase == dspex.BatchEnded:
			return errors.New("the batch ended before its worker could be killed")
		case b.Done() >= killAt:
			d.note("\n  %d of %d are done", b.Done(), b.Jobs)
			return d.killWorker(ctx, "")
		}
		<-t.C
	}
}

// batchRow is a line of the file: some rows are turns of conversations, and keep their order.
func batchRow(n int) string {
	row := map[string]any{"id": fmt.Sprint("row-", n), "command": "predict", "args": map[string]any{"question": fmt.Sprintf("What is row %d about?", n)}}
	if n%3 == 0 {
		row["session"] = fmt.Sprint("reader_", n%4)
	}
	line, _ := json.Marshal(row) // text and numbers always encode
	return string(line)
}

func writeJobs(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for n := range batchRows {
		if _, err := fmt.Fprintln(f, batchRow(n)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// readResults insists on one success for each row, in order, and counts those that needed more than one attempt.
func readResults(path string) (last string, again int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var r struct {
			Index    int
			ID       string
			Outcome  string
			Attempts int
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return "", 0, err
		}
		if r.Index != n || r.ID != fmt.Sprint("row-", n) || r.Outcome != "succeeded" {
			return "", 0, fmt.Errorf("line %d of the results is %s", n+1, lines.Text())
		}
		if last = lines.Text(); r.Attempts > 1 {
			again++
		}
	}
	if n != batchRows {
		return "", 0, fmt.Errorf("%d results of %d jobs", n, batchRows)
	}
	return last, again, nil
}
