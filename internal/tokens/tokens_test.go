package tokens_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/tokens"
)

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "tokens.json") }

func made(t *testing.T, path string, token tokens.Token) (tokens.Token, string) {
	t.Helper()
	added, text, err := tokens.New(path, token, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	return added, text
}

func TestAFileHasTheHashOfATokenAndNotItsText(t *testing.T) {
	path := file(t)
	added, text := made(t, path, tokens.Token{Tenant: "default", Role: tokens.Call, Sessions: "bob-", Rate: 2})
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if secret := text[strings.LastIndexByte(text, '_')+1:]; len(secret) < 26 || strings.Contains(string(kept), secret) {
		t.Errorf("%q\n%s", secret, kept)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	all, err := tokens.Read(path)
	if err != nil || len(all) != 1 || all[0] != added {
		t.Errorf("%+v %v", all, err)
	}
}

func TestATokenIsFoundByItsTextUntilItIsRevoked(t *testing.T) {
	path := file(t)
	added, text := made(t, path, tokens.Token{Tenant: "default", Role: tokens.Call})
	k, err := tokens.Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	if held := k.Find(text); held == nil || held.ID != added.ID {
		t.Errorf("%+v", held)
	}
	for _, other := range []string{"", added.ID, added.Hash, text + "x", strings.ToLower(text)} {
		if k.Find(other) != nil {
			t.Errorf("%q is found", other)
		}
	}
	if err := tokens.Revoke(path, added.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); k.Find(text) != nil; <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is found still")
		}
	}
}

func TestAFileThatBreaksChangesNothingAndIsSaid(t *testing.T) {
	path := file(t)
	_, text := made(t, path, tokens.Token{Tenant: "default", Role: tokens.Call})
	said := make(chan error, 1000)
	k, err := tokens.Open(path, func(err error) { said <- err })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for len(said) == 0 {
		if k.Find(text) == nil {
			t.Fatal("it is not found any more")
		}
		<-time.After(20 * time.Millisecond)
	}
	if k.Find(text) == nil {
		t.Error("it is not found any more")
	}
}

func TestARateIsHeldOverARereadOfTheFile(t *testing.T) {
	path := file(t)
	_, text := made(t, path, tokens.Token{Tenant: "default", Role: tokens.Call, Rate: 0.001})
	k, err := tokens.Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	if wait := k.Find(text).Wait(); wait != 0 {
		t.Errorf("the first waits %s", wait)
	}
	_, other := made(t, path, tokens.Token{Tenant: "default", Role: tokens.Call})
	for k.Find(other) == nil {
		<-time.After(20 * time.Millisecond)
	}
	if wait := k.Find(text).Wait(); wait < time.Minute {
		t.Errorf("the second waits %s", wait)
	}
	if wait := k.Find(other).Wait(); wait != 0 {
		t.Errorf("one without a bound waits %s", wait)
	}
}

func TestFilesThatNobodyOfUsWroteAreRefused(t *testing.T) {
	const good = `{"id":"abcdefgh","hash":"HASH","tenant":"default","role":"call","created":"2026-01-01T00:00:00Z"}`
	one := strings.Replace(good, "HASH", strings.Repeat("a", 64), 1)
	for text, want := range map[string]string{
		``:                                     "must be a file of tokens",
		`{"tokens":[],"x":1}`:                  "unknown field",
		`{"tokens":[` + good + `]}`:            "its id and hash must",
		`{"tokens":[` + one + `,` + one + `]}`: "must be unique",
		`{"tokens":[` + strings.Replace(one, `"call"`, `"root"`, 1) + `]}`: "a role must be",
	} {
		path := file(t)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestASecondChangeAtATimeIsRefused(t *testing.T) {
	path := file(t)
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.New(path, tokens.Token{Tenant: "default", Role: tokens.Call}, time.Now()); err == nil || !strings.Contains(err.Error(), "another change is under way") {
		t.Error(err)
	}
}
