package pyenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dspex/dspex/python"
)

// tinyLock is one package of the product's lock: the smallest environment that is made in the real way.
func tinyLock(t *testing.T) []byte {
	t.Helper()
	pin := regexp.MustCompile(`(?m)^msgspec==[^\n]*\n(?:    --hash=[^\n]*\n)+`).Find(python.WorkerLock)
	if pin == nil {
		t.Fatal("msgspec is not in the worker's lock")
	}
	return pin
}

// buffer is a writer that a test may read while it is written.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	saw map[string]chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	for text, seen := range b.saw {
		if strings.Contains(b.buf.String(), text) {
			close(seen)
			delete(b.saw, text)
		}
	}
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// once returns a channel that is closed when text has been written.
func (b *buffer) once(text string) chan struct{} {
	seen := make(chan struct{})
	if b.saw == nil {
		b.saw = map[string]chan struct{}{}
	}
	b.saw[text] = seen
	return seen
}

func tiny(t *testing.T, cache string, w io.Writer) Config {
	return Config{CacheDir: cache, Lock: tinyLock(t), Imports: []string{"msgspec"}, Progress: w, Installer: Pip}
}

func TestEnsureMakesAnEnvironmentOnceAndWorkersStartInIt(t *testing.T) {
	t.Parallel()
	var out buffer
	cfg := tiny(t, t.TempDir(), &out)
	cfg.Environ = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONHOME=/nonexistent", "PIP_TARGET=/nonexistent")
	env, err := Ensure(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(cfg.CacheDir, "venv-"+env.Key); !strings.HasPrefix(env.Python, want) || !strings.HasPrefix(env.SitePackages, want) {
		t.Errorf("the environment is not at %s: %+v", want, env)
	}
	if pyc, _ := filepath.Glob(filepath.Join(env.SitePackages, "msgspec", "__pycache__", "*.pyc")); len(pyc) == 0 {
		t.Error("no bytecode was compiled")
	}
	for _, text := range []string{"$ ", "--require-hashes", "1 packages", "ready"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the progress does not say %q:\n%s", text, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("escape sequences outside a terminal: %q", &out)
	}

	shown := len(out.String())
	again, err := Ensure(t.Context(), cfg)
	if err != nil || again.Key != env.Key || again.Python != env.Python {
		t.Fatalf("second call: %+v, %v", again, err)
	}
	if rest := out.String()[shown:]; rest != "" {
		t.Errorf("the second call did something: %s", rest)
	}

	// The argument vector but for the program that boot runs at the end.
	argv := env.Command()
	at := indexOf(argv, boot)
	argv[at] = strings.Replace(boot, `runpy.run_module("dspex_worker", run_name="__main__")`,
		"import dspex_worker, msgspec\nprint(dspex_worker.__file__, msgspec.__file__, dspex_worker.__cached__, sys.flags.no_site, sys.argv)", 1)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env.Environ()
	text, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("err must be nil, got %v; the worker's start: %v: %s", err, err, text)
	case !strings.Contains(string(text), env.RuntimeDir):
		t.Errorf("must hold: strings.Contains(string(text), env.RuntimeDir); the worker's start: %v: %s", err, text)
	case !strings.Contains(string(text), env.SitePackages):
		t.Errorf("must hold: strings.Contains(string(text), env.SitePackages); the worker's start: %v: %s", err, text)
	case !strings.Contains(string(text), " 1 ['-c']"):
		t.Errorf(`must hold: strings.Contains(string(text), " 1 ['-c']"); the worker's start: %v: %s`, err, text)
	}
	if pyc, _ := filepath.Glob(filepath.Join(env.RuntimeDir, "dspex_worker", "__pycache__", "*.pyc")); len(pyc) == 0 {
		t.Error("the runtime has no bytecode")
	}
}

func indexOf(argv []string, arg string) int {
	for i := range argv {
		if argv[i] == arg {
			return i
		}
	}
	return -1
}

func TestTwoAtOnceMakeOneEnvironment(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	outs := [2]buffer{}
	envs, errs := [2]Env{}, [2]error{}
	var both sync.WaitGroup
	for i := range outs {
		both.Go(func() { envs[i], errs[i] = Ensure(t.Context(), tiny(t, cache, &outs[i])) })
	}
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if envs[0].Python != envs[1].Python {
		t.Errorf("two environments: %s, %s", envs[0].Python, envs[1].Python)
	}
	made := strings.Count(outs[0].String()+outs[1].String(), "Making the Python environment")
	if made != 1 {
		t.Errorf("made %d times:\n%s\n%s", made, &outs[0], &outs[1])
	}
}

func TestTheSecondSaysThatItWaitsAndLeavesWhenItsContextEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	held, err := acquire(t.Context(), path, func() { t.Error("the first waits") })
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	if _, err := acquire(ctx, path, func() { cancel(left) }); !errors.Is(err, left) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

func TestAnInstallerThatOutlivesItsParentKeepsTheLock(t *testing.T) {
	path, fifo := filepath.Join(t.TempDir(), "x.lock"), filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := acquire(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		c := command{argv: []string{"/bin/sh", "-c", "echo started; read line <" + fifo}, lock: lock}
		_, err := c.run(t.Context(), func(string) { close(started) })
		ended <- err
	}()
	<-started
	lock.Close() // as the kernel does for a killed parent
	waited := false
	again, err := acquire(t.Context(), path, func() {
		waited = true
		if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if !waited {
		t.Error("the lock was free while the installer ran")
		os.WriteFile(fifo, []byte("go\n"), 0)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAnInterruptedSetupIsStartedAgain(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var first buffer
	installing := first.once("1 packages")
	done := make(chan error)
	go func() {
		_, err := Ensure(ctx, tiny(t, cache, &first))
		done <- err
	}()
	<-installing
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	var second buffer
	env, err := Ensure(t.Context(), tiny(t, cache, &second))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(second.String(), "interrupted") {
		t.Errorf("it does not say why it starts again:\n%s", &second)
	}
	if err := exec.Command(env.Python, "-c", "import msgspec").Run(); err != nil {
		t.Error(err)
	}
}

func TestADamagedEnvironmentIsMadeAgain(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	env, err := Ensure(t.Context(), tiny(t, cache, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"msgspec", filepath.Join("msgspec", "json.py")} {
		if err := os.RemoveAll(filepath.Join(env.SitePackages, lost)); err != nil {
			t.Fatal(err)
		}
		var said buffer
		if _, err := Ensure(t.Context(), tiny(t, cache, &said)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said.String(), "damaged") {
			t.Errorf("without %s: it must say that the environment is damaged, got:\n%s", lost, &said)
		}
		if err := exec.Command(env.Python, "-c", "import msgspec.json").Run(); err != nil {
			t.Errorf("without %s: %v", lost, err)
		}
	}
}

func TestAnEnvironmentWhoseInterpreterIsGoneIsNotComplete(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(dir, "k"); err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(t.TempDir(), "python3")
	script(t, python, "exit 0")
	if err := os.Symlink(python, venvPython(dir)); err != nil {
		t.Fatal(err)
	}
	if !complete(dir, "k") || complete(dir, "other") {
		t.Fatal("the marker does not decide")
	}
	if err := os.Remove(python); err != nil {
		t.Fatal(err)
	}
	if complete(dir, "k") {
		t.Error("complete without an interpreter")
	}
}

func TestUVMakesTheSameEnvironment(t *testing.T) {
	t.Parallel()
	tools := filepath.Join(t.TempDir(), "tools")
	if out, err := exec.Command("python3", "-m", "venv", tools).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(filepath.Join(tools, "bin", "pip"), "install", "--quiet", "uv").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bin := t.TempDir()
	if err := os.Symlink(filepath.Join(tools, "bin", "uv"), filepath.Join(bin, "uv")); err != nil {
		t.Fatal(err)
	}
	var out buffer
	cfg := tiny(t, t.TempDir(), &out)
	cfg.Installer = ""
	cfg.Environ = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	env, err := Ensure(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "uv pip sync") {
		t.Errorf("uv was on the PATH and was not used:\n%s", &out)
	}
	if pyc, _ := filepath.Glob(filepath.Join(env.SitePackages, "msgspec", "__pycache__", "*.pyc")); len(pyc) == 0 {
		t.Error("no bytecode was compiled")
	}
}

func TestWhatInstallersSayBecomesAdvice(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.Command("python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pin, _, _ := bytes.Cut(tinyLock(t), []byte(" "))
	noHash := fmt.Sprintf(" --hash=sha256:%x\n", sha256.Sum256(nil))
	for name, c := range map[string]struct {
		lock    string
		environ []string
		hint    string
	}{
		"wrong hash":      {lock: string(pin) + strings.Repeat(noHash[:len(noHash)-1], 2*tailLines) + "\n", hint: "not what the lock names"},
		"no network":      {lock: string(tinyLock(t)), hint: "did not answer", environ: []string{"PIP_INDEX_URL=http://127.0.0.1:9/simple", "PIP_FIND_LINKS=", "PIP_RETRIES=0"}},
		"no such release": {lock: "msgspec==0.0.0.1" + noHash, hint: "no wheel for this Python"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tiny(t, t.TempDir(), nil)
			cfg.Lock, cfg.Environ = []byte(c.lock), append(os.Environ(), c.environ...)
			b, err := newBuilder(cfg)
			if err != nil {
				t.Fatal(err)
			}
			requirements := filepath.Join(cfg.CacheDir, "lock.txt")
			if err := os.WriteFile(requirements, cfg.Lock, 0o644); err != nil {
				t.Fatal(err)
			}
			err = b.installPackages(t.Context(), append(pipInstall(dir), "-r", requirements), nil)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Hint, c.hint) || e.Output == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPackagesThatDoNotImportAreNotAnEnvironment(t *testing.T) {
	t.Parallel()
	cfg := tiny(t, t.TempDir(), nil)
	cfg.Imports = []string{"msgspec", "no_such_module"}
	_, err := Ensure(t.Context(), cfg)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Output, "no_such_module") {
		t.Fatalf("got %v", err)
	}
	if marked, _ := filepath.Glob(filepath.Join(cfg.CacheDir, "venv-*", marker)); len(marked) > 0 {
		t.Error("it is marked complete")
	}
}
