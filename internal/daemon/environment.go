package daemon

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/tracing"
)

// set sets the flags that were not given from their variables and from the file of settings, and makes the log. What is wrong with them is
// kept: the program reports it with what it finds itself. Other commands than the program itself have nothing to add.
func (s *Surroundings) set(cmd *cobra.Command, log *logging) (err error) {
	file, bad := config.Set(cmd.Flags(), s.Env, ".")
	s.file = file
	if s.Log, err = log.logger(s.Err); err != nil {
		s.Log = slog.New(slog.NewTextHandler(s.Err, nil))
	}
	if s.wrong = errors.Join(bad, file.Locate(err)); s.wrong != nil && cmd.HasParent() {
		return s.wrong
	}
	s.feed = logfeed.New(cmd.Root().Name(), nameOf(cmd.Root()))
	s.Log = slog.New(s.feed.Handler(s.Log.Handler()))
	if file.Path != "" && s.wrong == nil {
		s.Log.Info("config_file", "path", file.Path)
	}
	for _, w := range file.Warnings {
		s.Log.Warn("config_warning", "text", w)
	}
	return nil
}

// trace opens the way of spans, if there is one.
func (s *Surroundings) trace(cfg tracing.Config, program, name string) (err error) {
	if s.Traces, err = tracing.Open(cfg, s.Env, program, name, s.Log); err == nil {
		s.Metrics.MustRegister(s.Traces.Metrics()...)
	}
	return err
}

// nameOf is the name of this process among those of its program.
func nameOf(root *cobra.Command) string {
	if named := root.Flag("name"); named != nil {
		return named.Value.String()
	}
	return root.Name()
}

// Surroundings are what a program has around it. Tests give their own.
type Surroundings struct {
	Out, Err io.Writer
	Env      func(string) string
	Log      *slog.Logger // set when the flags are known
	Metrics  *prometheus.Registry
	Traces   *tracing.Tracer  // nil: there are no spans
	Hurry    <-chan struct{}  // closed by the second signal; the third one kills
	Hangup   <-chan os.Signal // each signal has the program read its settings again; nil: none comes
	Secrets  []string         // files with the credentials of this program; set when the flags are known

	file   *config.File
	wrong  error // with the settings
	feed   *logfeed.Feed
	reload func() (Reloaded, error) // nil: nothing can change while the program runs
}

// tellVariables adds each flag's variable to its help.
func tellVariables(root *cobra.Command) {
	config.TellVariables(root.LocalFlags())
	for _, c := range root.Commands() {
		config.TellVariables(c.LocalNonPersistentFlags())
	}
}
