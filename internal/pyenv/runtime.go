package pyenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dspex/dspex/python"
)

// source is one file of the worker runtime.
type source struct {
	path string // slash-separated, below the runtime directory
	text []byte
}

func runtimeSources() ([]source, string, error) {
	var files []source
	err := fs.WalkDir(python.Worker(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(python.Worker(), path)
		if err != nil {
			return err
		}
		files = append(files, source{path, text})
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("reading the embedded runtime: %w", err)
	}
	return files, sourceHash(files), nil
}

// sourceHash is what the worker computes over its own files and reports in HELLO (runtime_hash in start.py).
func sourceHash(files []source) string {
	slices.SortFunc(files, func(a, b source) int { return strings.Compare(a.path, b.path) })
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%d\x00", strings.TrimPrefix(f.path, "dspex_worker/"), len(f.text))
		h.Write(f.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// withRuntime puts the worker runtime on disk unless it is there, and completes env with its place.
func (b *builder) withRuntime(ctx context.Context, env Env, py interpreter) (Env, error) {
	files, hash, err := runtimeSources()
	if err != nil {
		return Env{}, err
	}
	// The interpreter's tag is in the name because the bytecode beside the source is for that interpreter.
	dir := filepath.Join(b.cache, "runtime-"+hash[:16]+"-"+py.Tag)
	env.RuntimeDir, env.RuntimeHash = dir, hash
	if extracted(dir, files) {
		return env, nil
	}
	lock, err := acquire(ctx, dir+".lock", func() { b.progress.note("Another dspex is writing the worker runtime: waiting for it.") })
	if err != nil {
		return Env{}, err
	}
	defer lock.Close()
	if extracted(dir, files) {
		return env, nil
	}
	if err := b.extract(ctx, dir, files, py, lock); err != nil {
		return Env{}, &Error{Problem: "the worker runtime cannot be written: " + err.Error(), Hint: "Check the space and the permissions in " + b.cache + ".", err: err}
	}
	return env, nil
}

// extracted reports whether dir holds exactly what the binary carries: a cleaner of old files may have been there.
func extracted(dir string, files []source) bool {
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.path)))
		if err != nil || !bytes.Equal(text, f.text) {
			return false
		}
	}
	return true
}

// extract fills a directory of another name and renames it: whoever sees dir sees all of it.
func (b *builder) extract(ctx context.Context, dir string, files []source, py interpreter, lock *os.File) error {
	tmp := dir + ".tmp"
	for _, old := range []string{tmp, dir} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	for _, f := range files {
		path := filepath.Join(tmp, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.text, 0o644); err != nil {
			return err
		}
	}
	// unchecked-hash: the bytecode is as immutable as the directory, so that a start compares no times. -s and -p give
	// tracebacks the final path.
	compile := command{argv: []string{py.Executable, "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", tmp, "-p", dir, tmp},
		env: b.environ.installer(), dir: b.cache, lock: lock}
	if tail, err := compile.run(ctx, nil); err != nil {
		return fmt.Errorf("compiling it: %w\n%s", err, strings.TrimSpace(tail))
	}
	return os.Rename(tmp, dir)
}
