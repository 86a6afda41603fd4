package tenants

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

const secret = "a-password-of-acme"

// beside copies the shipped configuration.
func beside(t *testing.T) (config, dir string) {
	t.Helper()
	root := t.TempDir()
	config, dir = filepath.Join(root, "nats.conf"), filepath.Join(root, "tenants")
	text, err := os.ReadFile("../../nats.conf")
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err == nil {
		err = os.CopyFS(dir, os.DirFS("../../tenants"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"DISPATCHER", "HOST", "CLIENT", "OPERATOR", "BACKUP"} {
		t.Setenv("DSPEX_"+who+"_PASSWORD", "pw")
	}
	return config, dir
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		all = append(all, one.Name)
	}
	return all
}

func TestTheBrokerReadsWhatIsAddedAndForgetsWhatIsRemoved(t *testing.T) {
	config, dir := beside(t)
	before, err := os.ReadFile(filepath.Join(dir, Index))
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{Connections: 7, Payload: 1 << 16}
	for _, n := range []New{{Name: "acme", User: "acme", Password: secret, Limits: limits}, {Name: "A_b-9", NKey: key}} {
		if err := Add(dir, n); err != nil {
			t.Fatal(err)
		}
	}
	list, err := List(dir)
	want := []Tenant{{Name: "A_b-9", Users: []string{key}}, {Name: "acme", Users: []string{"acme"}, Limits: limits}, {Name: "default", Users: []string{"client"}}}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("got %+v, %v", list, err)
	}
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, u := range o.Users {
		if u.Username == "acme" {
			found = u.Account.Name == "acme" && bcrypt.CompareHashAndPassword([]byte(u.Password), []byte(secret)) == nil && u.Permissions != nil
		}
	}
	if !found || len(o.Nkeys) != 1 || o.Nkeys[0].Account.Name != "A_b-9" {
		t.Errorf("the broker has the users %+v and %+v", o.Users, o.Nkeys)
	}
	for _, name := range []string{"acme", "A_b-9"} {
		if err := Remove(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, Index))
	if err != nil || string(after) != string(before) {
		t.Errorf("%s, %v", after, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("left are %v, %v", files, err)
	}
}

func TestWhatMustNotBeATenantIsRefusedAndChangesNothing(t *testing.T) {
	_, dir := beside(t)
	if err := Add(dir, New{Name: "acme", User: "acme", Password: secret}); err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]New{
		"the name of a tenant must have":   {Name: `x" {} y`, User: "u", Password: secret},
		`got "../x"`:                       {Name: "../x", User: "u", Password: secret},
		`got "dspex"`:                      {Name: "dspex", User: "u", Password: secret},
		`got "OPERATOR"`:                   {Name: "OPERATOR", User: "u", Password: secret},
		`got ""`:                           {User: "u", Password: secret},
		"a password or a public key":       {Name: "x", User: "u"},
		"and not both":                     {Name: "x", User: "u", Password: secret, NKey: "U"},
		"16 to 72 bytes, got 5":            {Name: "x", User: "u", Password: "short"},
		"16 to 72 bytes, got 73":           {Name: "x", User: "u", Password: strings.Repeat("x", 73)},
		"the public key of a user":         {Name: "x", NKey: "SUAC"},
		`the user must have`:               {Name: "x", User: `u", permissions: {}`, Password: secret},
		`be none of dispatcher`:            {Name: "x", User: "host", Password: secret},
		`max-connections must be`:          {Name: "x", User: "u", Password: secret, Limits: Limits{Connections: -1}},
		`there is a tenant "acme"`:         {Name: "acme", User: "u", Password: secret},
		`there is a tenant "default"`:      {Name: "Default", User: "u", Password: secret},
		`"acme" is tenant "acme"'s`:        {Name: "x", User: "acme", Password: secret},
		`the user "client" is tenant "def`: {Name: "x", User: "client", Password: secret},
	} {
		err := Add(dir, n)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q, got %v", want, err)
		}
		if err != nil && n.Password != "" && strings.Contains(err.Error(), n.Password) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	for want, name := range map[string]string{"has no line for tenant": "nobody", "the name of a tenant": "../acme"} {
		if err := Remove(dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, dir); !reflect.DeepEqual(got, []string{"acme", "default"}) {
		t.Errorf("the tenants are %v", got)
	}
}

func TestFilesThatAreNotOursAreNamed(t *testing.T) {
	_, dir := beside(t)
	index := filepath.Join(dir, Index)
	if err := os.WriteFile(index, []byte("acme { users: [] }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir); err == nil || !strings.Contains(err.Error(), "a line must be `NAME {") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir); err == nil || !strings.Contains(err.Error(), "it comes with nats.conf") {
		t.Errorf("got %v", err)
	}
}
