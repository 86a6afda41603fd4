package ops

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// partitionsPause is the time between two checks of a change under way.
const partitionsPause = 500 * time.Millisecond

// Partitions is `dspex partitions`.
func Partitions(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "partitions [N]", Short: "Show or change the number of partitions",
		Long: `Show into how many partitions the sessions are divided, or change it. The change needs no restart and refuses nothing: hosts
finish running jobs and release their partitions, other jobs wait for that, and no job, outcome or state is lost. The command
ends when the change is over. If it is interrupted the change continues, and "dspex partitions" shows the progress.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n := 0
			if len(args) == 1 {
				var err error
				if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
					return cli.Usage("the number of partitions must be 1 to 250, got %q", args[0])
				}
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if n == 0 {
					now, err := c.Admin().Partitions(ctx)
					if err != nil {
						return err
					}
					return sayPartitions(a, now)
				}
				return repartition(ctx, a, c, n)
			})
		},
	}
}

// repartition changes the number and shows how the change goes on.
func repartition(ctx context.Context, a *cli.App, c *dspex.Client, n int) error {
	now, err := c.Admin().SetPartitions(ctx, n)
	shown := ""
	for err == nil && now.Changing {
		if say := left(now); say != shown {
			shown = say
			fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, say))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(partitionsPause):
		}
		now, err = c.Admin().Partitions(ctx)
	}
	if err != nil {
		return err
	}
	return sayPartitions(a, now)
}

// left reports what a change waits for.
func left(now dspex.Partitions) string {
	if now.Held > 0 || now.Waiting == 0 {
		return fmt.Sprintf("hosts have not given back %d partitions from before the change", now.Held)
	}
	return fmt.Sprintf("%d jobs from before the change are left", now.Waiting)
}

func sayPartitions(a *cli.App, now dspex.Partitions) error {
	if !a.Text() {
		return a.Say(now.Raw)
	}
	if now.Changing {
		fmt.Fprintf(a.Out, "%d partitions, to be %d: %s\n", now.Serving, now.Partitions, left(now))
		return nil
	}
	fmt.Fprintf(a.Out, "%d partitions\n", now.Partitions)
	return nil
}
