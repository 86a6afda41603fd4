package pyenv

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWhatIsThereOfAnEnvironmentIsSeenAndNothingIsMade: none, one that is as locked, one with another version, one from which files were removed.
func TestWhatIsThereOfAnEnvironmentIsSeenAndNothingIsMade(t *testing.T) {
	t.Parallel()
	cfg := tiny(t, t.TempDir(), &buffer{})
	look := func() State {
		t.Helper()
		s, err := Look(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := look(); s.Made || exists(s.Dir) {
		t.Errorf("%+v", s)
	}
	site := placed(t, cfg)
	s := look()
	if !s.Made || s.Missing != "" {
		t.Errorf("the environment must be made with nothing missing, got %+v", s)
	}
	if s.Packages != 1 {
		t.Errorf("there must be 1 package, got %d", s.Packages)
	}
	if len(s.Differs) > 0 {
		t.Errorf("no package must differ, got %v", s.Differs)
	}
	infos, err := filepath.Glob(filepath.Join(site, "msgspec-*.dist-info"))
	if err != nil || len(infos) != 1 {
		t.Fatalf("%v %v", infos, err)
	}
	if err := os.Rename(infos[0], filepath.Join(site, "msgspec-0.1.dist-info")); err != nil {
		t.Fatal(err)
	}
	if s := look(); len(s.Differs) != 1 || s.Missing == "" {
		t.Errorf("%+v", s)
	}
}

// placed makes an environment without an installer: what Look reads of one.
func placed(t *testing.T, cfg Config) (site string) {
	t.Helper()
	b, err := newBuilder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.progress.close()
	py, err := b.find(t.Context(), b.usable)
	if err != nil {
		t.Fatal(err)
	}
	key := b.key(py)
	dir := filepath.Join(b.cache, "venv-"+key)
	site = venvSite(dir, py)
	version := locked.FindSubmatch(cfg.Lock)[2]
	info := filepath.Join(site, "msgspec-"+string(version)+".dist-info")
	for _, made := range []error{
		os.MkdirAll(info, 0o700), os.WriteFile(filepath.Join(info, "METADATA"), nil, 0o600), os.MkdirAll(filepath.Join(dir, "bin"), 0o700),
		os.Symlink(py.Executable, venvPython(dir)), writeContents(dir, site), os.WriteFile(filepath.Join(dir, marker), []byte(key), 0o600),
	} {
		if made != nil {
			t.Fatal(made)
		}
	}
	return site
}
