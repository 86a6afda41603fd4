package calls

import (
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Batch is `dspex batch`.
func Batch(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "batch", Short: "Run a file of jobs, each with one outcome", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(batchSubmit(a), batchList(a), batchOne(a, "show", "Show the progress of a batch", (*dspex.Client).GetBatch), batchWait(a), batchResults(a),
		batchOne(a, "cancel", "Cancel a batch: jobs that have not begun do not run", (*dspex.Client).CancelBatch), batchRetry(a),
		batchOne(a, "erase", "Remove a batch that has ended, with its jobs and outcomes", (*dspex.Client).EraseBatch))
	return cmd
}
