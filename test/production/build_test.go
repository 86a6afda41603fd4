package production

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildIsReproducible builds the programs from two copies of the sources, in folders of different names.
func TestBuildIsReproducible(t *testing.T) {
	first := buildCopy(t, filepath.Join(t.TempDir(), "here"))
	second := buildCopy(t, filepath.Join(t.TempDir(), "elsewhere", "deeper"))
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("%s must be the same bytes wherever it is built", name)
		}
	}
	if len(first) != 3 {
		t.Errorf("programs built: got %d, want 3", len(first))
	}
}

// buildCopy copies the repository's files to dir, builds there and returns the programs' hashes.
func buildCopy(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	const root = "../.."
	listed, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.SplitSeq(strings.Trim(string(listed), "\x00"), "\x00") {
		body, err := os.ReadFile(filepath.Join(root, path))
		if os.IsNotExist(err) {
			continue // removed, not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("make", "build")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, bytes.TrimSpace(out))
	}
	built, err := filepath.Glob(filepath.Join(dir, "bin", "*"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string][sha256.Size]byte{}
	for _, path := range built {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[filepath.Base(path)] = sha256.Sum256(program)
	}
	return sums
}
