package pyenv

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
)

// State is what this machine has of the product's environment.
type State struct {
	Dir      string
	Made     bool
	Missing  string   // a directory from which files were removed, "" if none were
	DSPy     string   // its version, "" if it is not there
	Packages int      // that are installed
	Differs  []string // packages of another version than the lock has: "name 1.2, locked 1.3"
}

var locked = regexp.MustCompile(`(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)`)

// Look reports what is there of the environment that Ensure would return, and makes nothing.
func Look(ctx context.Context, cfg Config) (State, error) {
	b, err := newBuilder(cfg)
	if err != nil {
		return State{}, err
	}
	defer b.progress.close()
	py, err := b.find(ctx, b.usable)
	if err != nil {
		return State{}, err
	}
	key := b.key(py)
	s := State{Dir: filepath.Join(b.cache, "venv-"+key)}
	if s.Made = complete(s.Dir, key); !s.Made {
		return s, nil
	}
	site := venvSite(s.Dir, py)
	s.Missing = missing(s.Dir, site)
	versions := map[string]string{}
	for _, p := range Packages(site) {
		versions[p.Name] = p.Version
	}
	s.DSPy, s.Packages = versions["dspy"], len(versions)
	for _, m := range locked.FindAllSubmatch(bytes.ToLower(b.lock), -1) {
		if have, is := versions[normal(string(m[1]))]; is && have != string(m[2]) {
			s.Differs = append(s.Differs, string(m[1])+" "+have+", locked "+string(m[2]))
		}
	}
	return s, nil
}
