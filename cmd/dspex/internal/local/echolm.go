package local

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/echolm"
)

// EchoLM is `dspex echo-lm`.
func EchoLM(a *cli.App) *cobra.Command {
	var listen, script string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "echo-lm",
		Short: "Serve a language model that only echoes, for trials without a key",
		Long: `Serve an OpenAI-compatible language model that only echoes, and marks its answers as echoes: for trials without a key, tests and load
tests. It prints one line "ready URL" when it listens and runs until it is interrupted. --script makes it slow or failing,
for example lat=200,status=429,ra=2; clients can ask for the same in the path: http://HOST:PORT/s/lat=200/v1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			behaviour, err := echolm.ParseScript(script)
			if err != nil {
				return cli.Usage("--script: %v", err)
			}
			config := echolm.Config{Addr: listen, Script: behaviour}
			if verbose {
				config.Log = slog.New(slog.NewTextHandler(a.Err, nil))
			}
			model, err := echolm.New(config)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "ready", model.URL())
			return model.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&script, "script", "", "how to behave, such as lat=200,status=429,ra=2")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log to standard error; never prompts or keys")
	return cmd
}
