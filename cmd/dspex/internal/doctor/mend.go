package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/stream"
)

// Bounds of what is waited for: a leader makes a missing object within two checks, and whoever takes a partition removes the consumers of
// earlier epochs.
const (
	missingFor   = 10 * time.Second
	leftoverFor  = 3 * time.Second
	missingPause = 250 * time.Millisecond
)

// stored checks the streams and buckets, and the consumers of partitions.
func (d *doctor) stored(ctx context.Context, js jetstream.JetStream) {
	ctx, cancel := context.WithTimeout(ctx, patience+missingFor)
	defer cancel()
	look, done := d.bounded(ctx, lookFor)
	found, missing, err := stream.Deviations(look, js)
	done()
	if d.unseen(look, "streams", err) {
		return
	}
	for _, name := range missing {
		d.mend(Finding{Check: "streams", Level: Wrong, Text: name + " is missing", Hint: "the leading dispatcher makes it within seconds: start one, or read its log", Before: "missing", After: "there"},
			func() error { return awaitMade(ctx, js, name) })
	}
	for _, v := range found {
		f := Finding{Check: "streams", Level: Wrong, Text: fmt.Sprintf("%s of %s is not as dspex makes it", v.Setting, v.Object), Before: v.Have, After: v.Want}
		if !v.Mendable {
			f.Hint, f.Text, f.Before, f.After = "it cannot be changed in place: docs/operations.md, Backup", fmt.Sprintf("%s of %s is %s, and must be %s", v.Setting, v.Object, v.Have, v.Want), "", ""
			d.findings = append(d.findings, f)
			continue
		}
		d.mend(f, func() error { return stream.Mend(ctx, js, v.Object) })
	}
	if len(found)+len(missing) == 0 {
		d.fine("streams", "all streams and buckets are as dspex makes them")
	}
	d.leftovers(ctx, js)
}

// awaitMade waits for the leader, which makes what is missing.
func awaitMade(ctx context.Context, js jetstream.JetStream, name string) error {
	ctx, cancel := context.WithTimeout(ctx, missingFor)
	defer cancel()
	for {
		_, missing, err := stream.Deviations(ctx, js)
		if err == nil && !slices.Contains(missing, name) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no dispatcher has made it within %v", missingFor)
		case <-time.After(missingPause):
		}
	}
}

// leftovers are those that are there in two looks: a take-over that is under way removes its own.
func (d *doctor) leftovers(ctx context.Context, js jetstream.JetStream) {
	look, done := d.bounded(ctx, lookFor)
	first, err := stream.Leftovers(look, js)
	done()
	if d.unseen(look, "leftover consumers", err) || len(first) == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(leftoverFor):
	}
	again, err := stream.Leftovers(ctx, js)
	if d.unseen(ctx, "leftover consumers", err) {
		return
	}
	for _, name := range again {
		if slices.Contains(first, name) {
			d.mend(Finding{Check: "consumers", Level: Wrong, Text: name + " was left by an earlier owner of its partition: it holds back jobs", Before: "there", After: "removed"},
				func() error { return stream.RemoveLeftover(ctx, js, name) })
		}
	}
}

// secretFlags name files with secrets.
var secretFlags = []string{"password-file", "creds", "nkey", "tls-key"}

// others are the permissions of those who are neither owner nor group.
const others = 0o007

// secrets checks who may read the files with secrets.
func (d *doctor) secrets() {
	for _, flag := range secretFlags {
		d.secretFiles = append(d.secretFiles, d.app.Env(config.Variable(flag)))
	}
	slices.Sort(d.secretFiles)
	for _, path := range slices.Compact(d.secretFiles) {
		info, err := os.Stat(path)
		if path == "" || err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&others == 0 {
			continue // what is missing is reported where it is used
		}
		now, then := info.Mode().Perm(), info.Mode().Perm()&^others
		d.mend(Finding{Check: "secrets", Level: Warning, Text: path + " holds a secret, and everybody on this machine may open it", Before: fmt.Sprintf("%#o", now), After: fmt.Sprintf("%#o", then)},
			func() error { return os.Chmod(path, then) })
	}
}
