package doctor

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func on(out *bytes.Buffer, env map[string]string) *doctor {
	return &doctor{path: ".", app: &cli.App{Out: out, Err: out, Output: "text", Env: func(name string) string { return env[name] }}}
}

func has(d *doctor, check string, level Level, part string) bool {
	return slices.ContainsFunc(d.findings, func(f Finding) bool {
		return f.Check == check && f.Level == level && strings.Contains(f.Text+f.Hint, part)
	})
}

func TestWhatIsWrongWithHostsIsFound(t *testing.T) {
	serving := dspex.HostInfo{Host: "a", State: dspex.HostServing, PoolSize: 4, ActiveWorkers: 4, Engine: "dspy 3.4.1"}
	with := func(change func(*dspex.HostInfo)) dspex.Hosts {
		h := serving
		h.Host = "b"
		change(&h)
		return dspex.Hosts{Hosts: []dspex.HostInfo{serving, h}, Partitions: 64, Leader: "d1"}
	}
	leaderless, orphans := with(func(*dspex.HostInfo) {}), with(func(*dspex.HostInfo) {})
	leaderless.Leader, orphans.Unassigned = "", 5
	for name, of := range map[string]struct {
		hosts       dspex.Hosts
		check, part string
		level       Level
	}{
		"gone":       {with(func(h *dspex.HostInfo) { h.State = dspex.HostGone }), "hosts", "b does not answer", Warning},
		"workers":    {with(func(h *dspex.HostInfo) { h.ActiveWorkers = 1 }), "hosts", "b has 1 of 4 workers", Warning},
		"drained":    {with(func(h *dspex.HostInfo) { h.Drain = true }), "hosts", "dspex hosts resume b", Note},
		"versions":   {with(func(h *dspex.HostInfo) { h.Engine = "dspy 3.3" }), "versions", "dspy 3.3 on b", Warning},
		"leaderless": {leaderless, "leader", "no dispatcher leads", Wrong},
		"orphans":    {orphans, "partitions", "5 of 64", Warning},
		"fine":       {with(func(*dspex.HostInfo) {}), "hosts", "worker-hosts: 2", Fine},
	} {
		t.Run(name, func(t *testing.T) {
			d := on(new(bytes.Buffer), nil)
			d.hosts(of.hosts)
			if !has(d, of.check, of.level, of.part) {
				t.Errorf("got %+v", d.findings)
			}
		})
	}
}

func TestWhatIsWrongWithSettingsAndModelsIsFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	for name, of := range map[string]struct {
		text, check, part string
		env               map[string]string
		level             Level
	}{
		"unknown key": {"pool_siez: 4\n", "settings", "f.yaml:1:1: unknown key pool_siez", nil, Wrong},
		"old name":    {"python_bridge: {python_executable: python3}\n", "settings", "is an old name", nil, Warning},
		"no key":      {"lm: {default: a, profiles: {a: {provider: openai, model: m}}}\n", "models", "OPENAI_API_KEY", nil, Wrong},
		"fine":        {"lm: {default: a, profiles: {a: {provider: openai, model: m}}}\n", "models", "profiles with their keys: a", map[string]string{"OPENAI_API_KEY": "k"}, Fine},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(of.text), 0o600); err != nil {
				t.Fatal(err)
			}
			env := map[string]string{"DSPEX_CONFIG": file}
			maps.Copy(env, of.env)
			d := on(new(bytes.Buffer), env)
			d.settings()
			if !has(d, of.check, of.level, of.part) {
				t.Errorf("got %+v", d.findings)
			}
		})
	}
}

func TestOnlyWhatIsWrongCountsForTheExitStatus(t *testing.T) {
	for level, want := range map[Level]error{Fine: nil, Note: nil, Warning: nil, Wrong: cli.ErrSilent} {
		var out bytes.Buffer
		d := on(&out, nil)
		d.add("thing", level, "do this", "that")
		if err := d.say(); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", level, err, want)
		}
		if !strings.Contains(out.String(), "→ do this") {
			t.Errorf("%s: the hint is missing in %q", level, out.String())
		}
	}
}
