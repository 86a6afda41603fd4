// Package tenants keeps the files that nats.conf includes, one for each tenant: the account of the broker that the tenant's
// programs are in, and what it imports. It writes files; the broker reads them on a reload.
package tenants

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
)

// Index is the file in the directory of tenants that nats.conf includes; it names a file for each of them.
const Index = "tenants.conf"

// Tenant is the content of the files about one.
type Tenant struct {
	Name   string   `json:"name"`
	Users  []string `json:"users"` // names, or public keys
	Limits Limits   `json:"limits"`
}

// Limits bound what a tenant's programs may take of the broker together; 0 is no bound.
type Limits struct {
	Connections   int64 `json:"max_connections,omitempty"`
	Subscriptions int64 `json:"max_subscriptions,omitempty"`
	Payload       int64 `json:"max_payload,omitempty"` // bytes of a message, below the broker's own
}

// New is a tenant to be added: with a password for User, or the public key of an NKey.
type New struct {
	Name, User     string
	Password, NKey string
	Limits         Limits
}

// reserved are names of accounts that are no tenant's.
var reserved = []string{"DSPEX", "OPERATOR", "SYS"}

// taken are the users of nats.conf itself.
var taken = []string{"dispatcher", "host", "operator", "backup"}

var userName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// minPassword is the least that a password must have: what is shorter can be tried out.
const minPassword = 16

// Check reports everything that is wrong with a new tenant.
func (n New) Check() error {
	wrong := []error{CheckName(n.Name)}
	if (n.Password == "") == (n.NKey == "") {
		wrong = append(wrong, errors.New("a tenant needs a password or a public key, and not both"))
	}
	if n.NKey == "" && (!userName.MatchString(n.User) || slices.Contains(taken, n.User)) {
		wrong = append(wrong, fmt.Errorf("the user must have 1 to 64 of A-Z a-z 0-9 _ - and be none of %s, got %q", strings.Join(taken, ", "), n.User))
	}
	if n.Password != "" && (len(n.Password) < minPassword || len(n.Password) > 72) {
		wrong = append(wrong, fmt.Errorf("the password must have %d to 72 bytes, got %d", minPassword, len(n.Password)))
	}
	if n.NKey != "" && !nkeys.IsValidPublicUserKey(n.NKey) {
		wrong = append(wrong, errors.New("the key must be the public key of a user (U...)"))
	}
	for _, l := range []struct {
		name  string
		value int64
	}{{"max-connections", n.Limits.Connections}, {"max-subscriptions", n.Limits.Subscriptions}, {"max-payload", n.Limits.Payload}} {
		if l.value < 0 || l.value > 1<<31-1 {
			wrong = append(wrong, fmt.Errorf("%s must be 0 to %d, got %d", l.name, 1<<31-1, l.value))
		}
	}
	return errors.Join(wrong...)
}

// CheckName reports what is wrong with a tenant's name.
func CheckName(name string) error {
	if !jobs.ValidTenant(name) || slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }) {
		return fmt.Errorf("the name of a tenant must have 1 to %d of A-Z a-z 0-9 _ - and be none of %s, got %q", jobs.MaxTenant, strings.Join(reserved, ", "), name)
	}
	return nil
}

// Remove takes a tenant out of the files.
func Remove(dir, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	index, mode, err := read(dir)
	if err != nil {
		return err
	}
	var rest []byte
	found := false
	for line := range bytes.Lines(index) {
		if m := entry.FindSubmatch(line); m != nil && string(m[1]) == name {
			found = true
			continue
		}
		rest = append(rest, line...)
	}
	if !found {
		return fmt.Errorf("%s has no line for tenant %q", filepath.Join(dir, Index), name)
	}
	if err := write(dir, rest, mode); err != nil { // first, so that the index names no file that is gone
		return err
	}
	return os.Remove(filepath.Join(dir, name+".conf"))
}

// entry is a line of the index.
var entry = regexp.MustCompile(`^\s*"?([A-Za-z0-9_-]+)"?\s*\{\s*include\s+"([A-Za-z0-9_-]+\.conf)"\s*\}\s*$`)

// file is what the broker reads of a tenant.
func (n New) file() ([]byte, error) {
	who := fmt.Sprintf("nkey: %q", n.NKey)
	if n.NKey == "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(n.Password), bcrypt.DefaultCost)
		if err != nil {
			return nil, fmt.Errorf("the password: %w", err)
		}
		who = fmt.Sprintf("user: %q, password: %q", n.User, hash)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The tenant %q.\n", n.Name)
	if l := n.Limits.text(); l != "" {
		fmt.Fprintf(&b, "limits: {%s}\n", l)
	}
	fmt.Fprintf(&b, "users: [{%s, permissions: {include \"rights.conf\"}}]\nimports: [\n", who)
	for _, kind := range []string{contract.SubjectRPC + ">", contract.SubjectSession + "*", contract.SubjectAnonymous + "*"} {
		fmt.Fprintf(&b, "  {service: {account: DSPEX, subject: %q}, to: %q}\n", contract.InTenant(n.Name, kind), kind)
	}
	fmt.Fprintf(&b, "  {stream: {account: DSPEX, subject: %q}, to: %q}\n]\n", contract.SubjectReply+n.Name+".>", contract.SubjectReply+">")
	return b.Bytes(), nil
}

func (l Limits) text() string {
	var all []string
	for _, one := range []struct {
		name  string
		value int64
	}{{"max_connections", l.Connections}, {"max_subscriptions", l.Subscriptions}, {"max_payload", l.Payload}} {
		if one.value > 0 {
			all = append(all, fmt.Sprintf("%s: %d", one.name, one.value))
		}
	}
	return strings.Join(all, ", ")
}

func read(dir string) (index []byte, mode fs.FileMode, err error) {
	path := filepath.Join(dir, Index)
	info, err := os.Stat(path)
	if err == nil {
		index, err = os.ReadFile(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s is missing: it comes with nats.conf", path)
	}
	if err != nil {
		return nil, 0, err
	}
	return index, info.Mode().Perm(), nil
}

// write replaces the index: the broker never reads half of it.
func write(dir string, index []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(dir, Index+".")
	if err != nil {
		return err
	}
	_, err = f.Write(index)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, Index))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
