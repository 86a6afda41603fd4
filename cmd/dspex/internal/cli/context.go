package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/daemon"
)

// natsContext is a context of the nats command line: a JSON file of its own. The library that reads them all brings an
// expression language along; these few fields do not need it.
type natsContext struct {
	name  string
	again func() (password string, err error) // reads it again; nil: it stays

	URL         string `json:"url"`
	Token       string `json:"token"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Creds       string `json:"creds"`
	NKey        string `json:"nkey"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	CA          string `json:"ca"`
	InboxPrefix string `json:"inbox_prefix"`
	UserJWT     string `json:"user_jwt"`
	UserSeed    string `json:"user_seed"`
	TLSFirst    bool   `json:"tls_first"`

	// Fields that would be needed to connect, and that we cannot serve.
	NSC          string `json:"nsc"`
	SocksProxy   string `json:"socks_proxy"`
	WindowsStore string `json:"windows_cert_store"`
}

func readContext(env func(string) string, name string) (*natsContext, error) {
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return nil, Usage("--context must be the name of a context, not a path")
	}
	config := env("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(env("HOME"), ".config")
	}
	path := filepath.Join(config, "nats", "context", name+".json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Failure{Status: daemon.ExitUsage, Text: fmt.Sprintf("there is no context %q", name), Hint: "`nats context ls` lists them; looked for " + path}
	}
	if err != nil {
		return nil, Usage("reading the context: %v", err)
	}
	c := &natsContext{name: name}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, Usage("the context %q is not the expected JSON: %v", name, err)
	}
	c.again = func() (string, error) {
		now, err := readContext(env, name)
		if err != nil {
			return "", err
		}
		return now.Password, nil
	}
	return c, c.check()
}

// check refuses what would silently connect with other credentials than the nats command line.
func (c *natsContext) check() error {
	for field, value := range map[string]string{"nsc": c.NSC, "socks_proxy": c.SocksProxy, "windows_cert_store": c.WindowsStore} {
		if value != "" {
			return Usage("the context %q sets %s, which dspex does not support", c.name, field)
		}
	}
	for field, value := range map[string]string{"creds": c.Creds, "nkey": c.NKey, "password": c.Password, "token": c.Token, "user_seed": c.UserSeed, "user_jwt": c.UserJWT} {
		if scheme, _, ok := strings.Cut(value, "://"); ok {
			return Usage("the context %q keeps %s in a store (%s:), which dspex does not support", c.name, field, scheme)
		}
	}
	return nil
}

// password is the one that there is now: it may be replaced while a connection lasts.
func (c *natsContext) password() string {
	if c.again == nil {
		return c.Password
	}
	now, err := c.again()
	if err != nil {
		return c.Password
	}
	return now
}

func (c *natsContext) options(env func(string) string) ([]nats.Option, error) {
	path := func(p string) string {
		if rest, ok := strings.CutPrefix(p, "~/"); ok {
			p = filepath.Join(env("HOME"), rest)
		}
		return os.Expand(p, env)
	}
	var options []nats.Option
	switch {
	case c.User != "":
		options = append(options, nats.UserInfoHandler(func() (string, string) { return c.User, c.password() }))
	case c.Creds != "":
		options = append(options, nats.UserCredentials(path(c.Creds)))
	case c.NKey != "":
		nkey, err := nats.NkeyOptionFromSeed(path(c.NKey))
		if err != nil {
			return nil, Usage("the context %q: reading the nkey: %v", c.name, err)
		}
		options = append(options, nkey)
	case c.UserJWT != "":
		options = append(options, nats.UserJWTAndSeed(c.UserJWT, c.UserSeed))
	}
	if c.Token != "" {
		options = append(options, nats.Token(c.Token))
	}
	if c.Cert != "" && c.Key != "" {
		options = append(options, nats.ClientCert(path(c.Cert), path(c.Key)))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(path(c.CA)))
	}
	if c.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	if c.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options, nil
}
