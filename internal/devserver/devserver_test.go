package devserver

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsWrongEndsTheStartAndSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	wrong := filepath.Join(t.TempDir(), "lm.json")
	if err := os.WriteFile(wrong, []byte(`{"profiles": {"a": {"provider": "acme", "model": "m"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for says, cfg := range map[string]Config{
		"--listen 127.0.0.1:0 takes a free port": {Listen: l.Addr().String()},
		"another dspex dev uses it":              {Dir: dir}, // detected late, with workers and the echo model running: they end, too
		`got "acme"`:                             {LMFile: wrong},
		`--engine must be dspy or stub, got "x"`: {Engine: "x"},
		"--listen must be HOST:PORT":             {Listen: "4222"},
	} {
		if cfg.Engine == "" {
			cfg.Engine = "stub"
		}
		if cfg.Listen == "" {
			cfg.Listen = "127.0.0.1:0"
		}
		cfg.Workers = 1
		if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

func TestItServesFromReadyUntilItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	serve := func() {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ready := 0
		err := Run(ctx, Config{Engine: "stub", Listen: "127.0.0.1:0", Dir: dir, Workers: 1, Ready: func(i Info) {
			ready++
			if i.Engine != "stub" || !strings.HasPrefix(i.URL, "nats://127.0.0.1:") || i.Echo == "" {
				t.Errorf("%+v", i)
			}
			stop()
		}})
		if err != nil || ready != 1 {
			t.Errorf("%v, ready %d times", err, ready)
		}
	}
	serve()
	serve() // the directory is free again
}
