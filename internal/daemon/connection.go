package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
)

// connection reports how the broker is reached.
type connection struct {
	server, user, password, passwordFile, creds, nkey, ca, cert, key, inbox string
}

func (c *connection) declare(f *pflag.FlagSet) {
	f.StringVar(&c.server, "server", nats.DefaultURL, "URL of the NATS server, or several separated by commas")
	f.StringVar(&c.user, "user", "", "user name, with the password in $NATS_PASSWORD or --password-file")
	f.StringVar(&c.passwordFile, "password-file", "", "file of the password of --user, read again for each connection: it can be rotated")
	f.StringVar(&c.creds, "creds", "", "file of NATS credentials (JWT and key)")
	f.StringVar(&c.nkey, "nkey", "", "file of an NKey seed")
	f.StringVar(&c.ca, "tls-ca", "", "file of the CA that signed the server's certificate")
	f.StringVar(&c.cert, "tls-cert", "", "file of the client certificate")
	f.StringVar(&c.key, "tls-key", "", "file of the client certificate's key")
	f.StringVar(&c.inbox, "inbox-prefix", "", "prefix of reply subjects, as the user's permissions require")
}

func (c *connection) check(env func(string) string) error {
	c.password = env("NATS_PASSWORD")
	var wrong []error
	given := 0
	for _, s := range []string{c.user, c.creds, c.nkey} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		wrong = append(wrong, errors.New("--user, --creds and --nkey exclude each other"))
	}
	if c.passwordFile != "" {
		switch _, err := c.readPassword(); {
		case c.user == "":
			wrong = append(wrong, errors.New("--password-file needs --user"))
		case c.password != "":
			wrong = append(wrong, errors.New("--password-file and $NATS_PASSWORD exclude each other"))
		case err != nil:
			wrong = append(wrong, err)
		}
	}
	if (c.cert == "") != (c.key == "") {
		wrong = append(wrong, errors.New("--tls-cert and --tls-key belong together"))
	}
	if c.inbox != "" && !strings.HasPrefix(c.inbox, "_INBOX.") {
		wrong = append(wrong, fmt.Errorf("--inbox-prefix must begin with _INBOX., got %q: no reply is sent to other subjects", c.inbox))
	}
	return errors.Join(wrong...)
}

// readPassword returns the password as its file has it now, without the end of its line.
func (c *connection) readPassword() (string, error) {
	if c.passwordFile == "" {
		return c.password, nil
	}
	text, err := os.ReadFile(c.passwordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// secrets are the files that nobody else should read.
func (c *connection) secrets() []string {
	return slices.DeleteFunc([]string{c.creds, c.nkey, c.key}, func(path string) bool { return path == "" })
}

func (c *connection) options() ([]nats.Option, error) {
	var o []nats.Option
	if c.user != "" {
		o = append(o, nats.UserInfoHandler(func() (string, string) {
			password, _ := c.readPassword() // without one the broker refuses, and it is read again at the next try
			return c.user, password
		}))
	}
	if c.creds != "" {
		o = append(o, nats.UserCredentials(c.creds))
	}
	if c.nkey != "" {
		nkey, err := nats.NkeyOptionFromSeed(c.nkey)
		if err != nil {
			return nil, fmt.Errorf("--nkey: %w", err)
		}
		o = append(o, nkey)
	}
	if c.ca != "" {
		o = append(o, nats.RootCAs(c.ca))
	}
	if c.cert != "" {
		o = append(o, nats.ClientCert(c.cert, c.key))
	}
	if c.inbox != "" {
		o = append(o, nats.CustomInboxPrefix(c.inbox))
	}
	return o, nil
}

// healthTimeout bounds the question whether a program serves; an answer takes milliseconds.
const healthTimeout = 5 * time.Second

// refusalSilence is the time between two lines of the log about refused credentials: a try takes a third of a second.
const refusalSilence = time.Minute

// brokerErrors logs what the broker objects to. nats.go calls it from one goroutine.
func brokerErrors(log *slog.Logger) nats.ErrHandler {
	var logged time.Time
	return func(_ *nats.Conn, sub *nats.Subscription, err error) {
		if !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) && !errors.Is(err, nats.ErrAuthRevoked) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				log.Error("messages_dropped", "subject", subjectOf(sub), "hint", "more messages arrived than fit into the buffer: add processors, or run another process")
				return
			}
			log.Error("broker_error", "error", err, "subject", subjectOf(sub))
			return
		}
		if logged.IsZero() || time.Since(logged) > refusalSilence {
			logged = time.Now()
			log.Error("broker_refuses_credentials", "error", err, "hint", "retrying with the current content of --password-file, --creds or --nkey")
		}
	}
}

// refused reports why there is no connection, without what is secret in an address.
func (c *connection) refused(err error) error {
	f := &failure{status: ExitUnreachable, text: fmt.Sprintf("the broker at %s: %v", WithoutPassword(c.server), err)}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		f.hint = "set the user with --user and $NATS_PASSWORD or --password-file, or with --creds or --nkey; the broker's configuration (nats.conf) has the users"
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout):
		f.hint = "start it with `nats-server -c nats.conf`, name another one with --server or $NATS_URL, or use `dspex dev`, which includes a broker"
	default:
		f.hint = "set the broker with --server or $NATS_URL, such as nats://127.0.0.1:4222"
	}
	return f
}

func subjectOf(sub *nats.Subscription) string {
	if sub == nil {
		return ""
	}
	return sub.Subject
}

// WithoutPassword makes a list of URLs fit to be shown.
func WithoutPassword(addresses string) string {
	shown := strings.Split(addresses, ",")
	for i, address := range shown {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			return "an address that is not a URL"
		}
		if u.User != nil { // a lone user is a token
			u.User = url.User("...")
		}
		shown[i] = u.String()
	}
	return strings.Join(shown, ",")
}
