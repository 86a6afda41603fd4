package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/devserver"
)

// reread is `dspex dev` with a file of settings, and what it shows of it.
type reread struct {
	*rereading
	t    *testing.T
	path string
	err  bytes.Buffer
}

func startReread(t *testing.T, text string, args ...string) *reread {
	t.Helper()
	r := &reread{t: t, path: filepath.Join(t.TempDir(), "dspex.yaml")}
	r.write(text)
	app := &cli.App{Out: &r.err, Err: &r.err, Env: func(string) string { return "" }}
	var d devRun
	flags := pflag.NewFlagSet("dev", pflag.ContinueOnError)
	d.flags(flags)
	if err := flags.Parse(append(args, "--config", r.path)); err != nil {
		t.Fatal(err)
	}
	given := daemon.Given(flags)
	if _, err := config.Set(flags, app.Env, "."); err != nil {
		t.Fatal(err)
	}
	r.rereading = newRereading(app, given, flags, nextDev)
	return r
}

func (r *reread) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// shows reads the file again, and returns what that shows, without its path.
func (r *reread) shows(text string) string {
	r.t.Helper()
	r.write(text)
	r.err.Reset()
	r.now()
	return strings.ReplaceAll(r.err.String(), r.path, "FILE")
}

func TestWhatTheFileOfDevHasNowIsTakenOver(t *testing.T) {
	r := startReread(t, "pool_size: 2\nslots: 8\n", "--overflow", "1", "--import", "a,b")
	if got := r.shows("pool_size: 3\n"); !strings.Contains(got, "nothing runs yet") {
		t.Errorf("before it is ready: %s", got)
	}
	var got []devserver.Config
	kept := map[string]string{}
	adjust := func(cfg devserver.Config) (devserver.Adjusted, error) {
		got = append(got, cfg)
		if cfg.Workers == 200 {
			return devserver.Adjusted{}, errors.New("too many")
		}
		return devserver.Adjusted{Kept: kept}, nil
	}
	r.adjust.Store(&adjust)
	for _, row := range []struct{ text, want string }{
		{"pool_size: 4\noverflow: 9\nslots: 16\n", "reloaded FILE\n  taken over     pool_size: 2 -> 4\n  needs restart  slots: 8 -> 16\n"},
		{"pool_size: 4\nslots: 16\ncircuit_breaker: {timeout: 5s}\n", "reloaded FILE\n  taken over     circuit_breaker.timeout: 1m0s -> 5s\n  needs restart  slots: 8 -> 16\n"},
		{"pool_size: many\n", "FILE:1:12: pool_size must be a number, got \"many\"\nthe settings stay as they were: nothing was taken over\n"},
		{"pool_size: 200\n", "too many\nthe settings stay as they were: nothing was taken over\n"},
	} {
		if shown := r.shows(row.text); shown != row.want {
			t.Errorf("%s\ngot:\n%s\nexpected:\n%s", row.text, shown, row.want)
		}
	}
	if last := got[1]; last.Workers != 4 || last.Pool.Overflow != 1 || fmt.Sprint(last.Modules.Names) != "[a b]" {
		t.Errorf("the flags that were given must stay, got %+v", last)
	}
	kept["workers"] = "it is fixed"
	if shown := r.shows("pool_size: 5\nslots: 8\ncircuit_breaker: {timeout: 5s}\n"); shown != "reloaded FILE\n  needs restart  pool_size: 4 -> 5 (it is fixed)\n" {
		t.Error(shown)
	}
}
