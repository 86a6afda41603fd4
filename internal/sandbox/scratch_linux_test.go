package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirectoriesOfHostsThatWereKilledAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	living, lock, err := makeScratch()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	dead, killed, err := makeScratch()
	if err == nil {
		err = os.WriteFile(filepath.Join(dead, "left"), nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	killed.Close()
	_, next, err := makeScratch()
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := os.Stat(living); err != nil {
		t.Errorf("that of a host that lives: %v", err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("that of a host that was killed is still there: %v", err)
	}
}
