package python

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestEveryPythonFileOfTheRuntimeIsEmbeddedAndNothingElse(t *testing.T) {
	sources := func(tree fs.FS) map[string]string {
		found := map[string]string{}
		err := fs.WalkDir(tree, "dspex_worker", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".py") {
				return err
			}
			b, err := fs.ReadFile(tree, path)
			found[path] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	onDisk, embedded := sources(os.DirFS(".")), sources(Worker())
	for path, text := range onDisk {
		if embedded[path] != text {
			t.Errorf("%s is missing in the binary or differs: the globs in embed.go name four levels", path)
		}
	}
	if len(embedded) != len(onDisk) {
		t.Errorf("embedded %d files, %d are on disk", len(embedded), len(onDisk))
	}
}

func TestLocksPinEveryPackageByHash(t *testing.T) {
	for name, lock := range map[string][]byte{"worker": WorkerLock, "litellm": LitellmLock} {
		if !bytes.Contains(lock, []byte("--hash=sha256:")) {
			t.Errorf("the %s lock has no hashes", name)
		}
		for line := range strings.Lines(string(lock)) {
			pin := line[0] != ' ' && line[0] != '#' && line[0] != '\n'
			if pin && !strings.Contains(line, "==") {
				t.Errorf("%s: not an exact pin: %q", name, line)
			}
		}
	}
}
