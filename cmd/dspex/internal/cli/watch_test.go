package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestWhatIsWatchedIsShownAgainUntilItIsInterruptedOrFails(t *testing.T) {
	watchPause = time.Millisecond
	broken := errors.New("broken")
	for name, last := range map[string]error{"interrupted": nil, "fails": broken} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			shown := 0
			a := &App{Out: new(strings.Builder), Output: "text"}
			cmd := Watched(a, &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
				if shown++; shown < 3 {
					return ErrSilent // degraded, and worth another look
				}
				interrupt()
				return last
			}})
			cmd.SetArgs([]string{"--watch"})
			if err := cmd.ExecuteContext(ctx); !errors.Is(err, last) || shown != 3 {
				t.Errorf("%v after %d pictures", err, shown)
			}
			a.Output = "json"
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "jsonl") {
				t.Errorf("as JSON: %v", err)
			}
		})
	}
}
