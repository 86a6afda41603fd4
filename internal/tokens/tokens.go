// Package tokens keeps the bearer tokens of the gateway in a file: who each one is for and what it may do, and of its text the hash
// alone.
package tokens

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Role is what the bearer of a token may do.
type Role string

// The roles.
const (
	Call    Role = "call"    // run commands, store jobs, read and cancel them
	Operate Role = "operate" // that, the commands of operators, and the gateway's metrics
)

// Token is a bearer token. Its text is not kept.
type Token struct {
	ID       string    `json:"id"`
	Hash     string    `json:"hash"` // SHA-256 of the text, in hex: the text is random, so that a slow hash would add nothing
	Tenant   string    `json:"tenant"`
	Role     Role      `json:"role"`
	Sessions string    `json:"sessions,omitempty"` // what the names of its sessions, and its ids of anonymous jobs, begin with
	Rate     float64   `json:"rate,omitempty"`     // requests a second; 0: no bound
	Created  time.Time `json:"created"`
}

// Default is the tenant that there is without tenants.
const Default = "default"

// Bounds of a file and of what stands in it.
const (
	most     = 10_000
	mostRate = 100_000
	mostText = 8 << 20
)

var (
	idForm     = regexp.MustCompile(`^[a-z2-7]{8}$`)
	hashForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tenantForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9_-]{0,20}$`)
)

// Check reports everything that is wrong with what a token is to be.
func (t Token) Check() error {
	var wrong []error
	if !tenantForm.MatchString(t.Tenant) {
		wrong = append(wrong, fmt.Errorf("a tenant must be 1 to 32 letters, digits, _ and -, got %q", t.Tenant))
	}
	if t.Role != Call && t.Role != Operate {
		wrong = append(wrong, fmt.Errorf("a role must be call or operate, got %q", t.Role))
	}
	if !prefixForm.MatchString(t.Sessions) {
		wrong = append(wrong, fmt.Errorf("what sessions begin with must be at most 20 letters, digits, _ and -, got %q", t.Sessions))
	}
	if !(t.Rate >= 0 && t.Rate <= mostRate) {
		wrong = append(wrong, fmt.Errorf("a rate must be 0 (no bound) to %d requests a second, got %v", mostRate, t.Rate))
	}
	return errors.Join(wrong...)
}

type file struct {
	Tokens []Token `json:"tokens"`
}

// Read reads the tokens of a file.
func Read(path string) ([]Token, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(text) > mostText {
		return nil, fmt.Errorf("%s must have at most %d bytes, got %d", path, mostText, len(text))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s must be a file of tokens (`dspex tokens new` creates one): %w", path, err)
	}
	if len(f.Tokens) > most {
		return nil, fmt.Errorf("%s must have at most %d tokens, got %d", path, most, len(f.Tokens))
	}
	seen := map[string]bool{}
	for i, t := range f.Tokens {
		err := t.Check()
		if !idForm.MatchString(t.ID) || !hashForm.MatchString(t.Hash) || seen[t.ID] || seen[t.Hash] {
			err = errors.Join(err, errors.New("its id and hash must be unique and have the form that `dspex tokens new` writes"))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: token %d: %w", path, i+1, err)
		}
		seen[t.ID], seen[t.Hash] = true, true
	}
	return f.Tokens, nil
}

// New adds a token to a file, which is made if there is none, and returns its text.
func New(path string, t Token, now time.Time) (added Token, text string, err error) {
	if err := t.Check(); err != nil {
		return t, "", err
	}
	t.ID = strings.ToLower(rand.Text()[:8])
	text = "dspex_" + t.ID + "_" + rand.Text()
	t.Hash, t.Created = hash(text), now.UTC().Truncate(time.Second)
	return t, text, change(path, func(all []Token) ([]Token, error) {
		if len(all) >= most {
			return nil, fmt.Errorf("%s has %d tokens, which is the most: revoke some", path, most)
		}
		return append(all, t), nil
	})
}

// ErrUnknown is the error of an id that no token has.
var ErrUnknown = errors.New("there is no such token")

// Revoke removes a token from a file.
func Revoke(path, id string) error {
	return change(path, func(all []Token) ([]Token, error) {
		left := slices.DeleteFunc(slices.Clone(all), func(t Token) bool { return t.ID == id })
		if len(left) == len(all) {
			return nil, ErrUnknown
		}
		return left, nil
	})
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// change replaces the file by another one. The new one stands beside it meanwhile, which keeps a second change out.
func change(path string, to func([]Token) ([]Token, error)) (err error) {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there: another change is under way; remove it if that is not so", next)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next)
		}
	}()
	defer func() { _ = f.Close() }()
	all, err := Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if all, err = to(all); err != nil {
		return err
	}
	e := json.NewEncoder(f)
	e.SetIndent("", "  ")
	if err := errors.Join(e.Encode(file{all}), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(next, path)
}
