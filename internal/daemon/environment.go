package daemon

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// natsFlags are those of the connection: their variables are the ones that the nats command line reads.
var natsFlags = map[string]string{
	"server": "NATS_URL", "user": "NATS_USER", "password-file": "NATS_PASSWORD_FILE", "creds": "NATS_CREDS", "nkey": "NATS_NKEY",
	"tls-ca": "NATS_CA", "tls-cert": "NATS_CERT", "tls-key": "NATS_KEY", "inbox-prefix": "NATS_INBOX_PREFIX",
}

// ownFlags have the names of variables that the original has.
var ownFlags = map[string]string{"test-mode": "TEST_MODE"}

// variable is the environment variable of a flag, "" for --help and --version.
func variable(flag string) string {
	if flag == "help" || flag == "version" {
		return ""
	}
	if name := natsFlags[flag]; name != "" {
		return name
	}
	if name := ownFlags[flag]; name != "" {
		return name
	}
	return "DSPEX_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// tellVariables adds each flag's variable to its help.
func tellVariables(root *cobra.Command) {
	tell := func(f *pflag.Flag) {
		if name := variable(f.Name); name != "" {
			f.Usage += " [$" + name + "]"
		}
	}
	root.LocalFlags().VisitAll(tell)
	for _, c := range root.Commands() {
		c.LocalNonPersistentFlags().VisitAll(tell)
	}
}

// setFromEnvironment sets each flag that was not given from its variable, and says all that is wrong with them.
func setFromEnvironment(flags *pflag.FlagSet, env func(string) string) error {
	var wrong []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		if name == "" || f.Changed {
			return
		}
		if text := env(name); text != "" {
			if err := flags.Set(f.Name, text); err != nil {
				wrong = append(wrong, fmt.Errorf("$%s must be a value of --%s (%s), got %q", name, f.Name, f.Value.Type(), text))
			}
		}
	})
	return errors.Join(wrong...)
}
