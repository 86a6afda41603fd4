package daemon

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
)

// concealedIn names the descriptor that holds the real environment and arguments of a program that has started itself again.
const concealedIn = "DSPEX_CONCEALED_FD"

// plain are the variables that stay where other processes can read them: what the Go runtime looks for before any code of ours
// runs, and what people look for in a list of processes. None of them holds a secret.
var plain = []string{
	"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
	"HOME", "LANG", "LANGUAGE", "PATH", "PWD", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
}

// surroundings are what a program is given by whoever starts it.
type surroundings struct {
	Environ []string `json:"environ"`
	Args    []string `json:"args"`
}

// visible is what may be seen of them by every process of the machine, or by those of the same user.
func (s surroundings) visible() surroundings {
	var v surroundings
	for _, pair := range s.Environ {
		name, _, _ := strings.Cut(pair, "=")
		if slices.Contains(plain, name) || strings.HasPrefix(name, "LC_") {
			v.Environ = append(v.Environ, pair)
		}
	}
	for _, arg := range s.Args {
		v.Args = append(v.Args, withoutUser(arg))
	}
	return v
}

// withoutUser takes user and password out of the addresses in an argument.
func withoutUser(arg string) string {
	flag, value := "", arg
	if strings.HasPrefix(arg, "-") {
		if name, v, ok := strings.Cut(arg, "="); ok {
			flag, value = name+"=", v
		}
	}
	if !strings.Contains(value, "://") || !strings.Contains(value, "@") {
		return arg
	}
	parts := strings.Split(value, ",")
	for i, part := range parts {
		switch u, err := url.Parse(strings.TrimSpace(part)); {
		case err != nil:
			parts[i] = "..."
		case u.User != nil:
			u.User = url.User("...")
			parts[i] = u.String()
		}
	}
	return flag + strings.Join(parts, ",")
}

// Conceal keeps what the program was given out of sight of other processes. Secrets stay neither in /proc/PID/environ nor in
// /proc/PID/cmdline. Processes of the same user can neither trace the program nor read its memory or its descriptors. On Linux the
// program starts itself again, with the same number, and reads environment and arguments from a file in memory; elsewhere nothing is
// done. Call it first of all: what ran before runs twice.
func Conceal() error {
	if err := conceal(); err != nil {
		return fmt.Errorf("the environment cannot be hidden from other processes: %w", err)
	}
	return nil
}

// adopt makes them the program's own.
func (s surroundings) adopt() error {
	os.Clearenv()
	for _, pair := range s.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("variable %q: %w", name, err)
		}
	}
	os.Args = s.Args
	return nil
}

func (s surroundings) encode() ([]byte, error) { return json.Marshal(s) }

func decodeSurroundings(b []byte) (s surroundings, err error) {
	err = json.Unmarshal(b, &s)
	if err == nil && len(s.Args) == 0 {
		err = fmt.Errorf("$%s is reserved for the program, and its value is invalid: unset it", concealedIn)
	}
	return s, err
}
