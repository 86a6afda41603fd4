package calls

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
)

// benchFlags report how to load the pool.
type benchFlags struct {
	users, operations int
	command, session  string
	timeout           time.Duration
	retries           int
	body              string
}

const maxOperations = 10_000_000 // latencies of all are kept: 80 MB

// Bench is `dspex bench`.
func Bench(a *cli.App) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench [key=value ...]",
		Short: "Load the pool like many concurrent users, and measure it",
		Long: `Load the pool: each user has a session of its own and sends one operation after the other. Without arguments an operation
is predict with the question "Test question N".

` + cli.ArgsHelp + `

Exit status: 1 if an operation failed, otherwise as for call.`,
		Example: `  dspex bench --users 10 --operations 100
  dspex bench --users 64 --operations 50 --command echo text=hi -o json`,
		RunE: func(cmd *cobra.Command, words []string) error {
			if f.users < 1 || f.operations < 1 || f.users > maxOperations/f.operations {
				return cli.Usage("--users and --operations must be 1 or more, their product at most %d", maxOperations)
			}
			args, err := a.ParseArgs(words, f.body)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error { return bench(ctx, a, c, &f, args) })
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.users, "users", 10, "users at once")
	flags.IntVar(&f.operations, "operations", 100, "operations of each user")
	flags.StringVar(&f.command, "command", "predict", "command to run")
	flags.StringVar(&f.session, "session", "", "prefix of the sessions' names (default a new one each time)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "bound on one attempt")
	flags.IntVar(&f.retries, "max-retries", 0, "retries of a failed attempt; by default there are none, so that failures are counted")
	flags.StringVar(&f.body, "json", "", "arguments as a JSON map: the text, @FILE, or - for standard input")
	return cmd
}

// tally counts what the operations came to.
type tally struct {
	mu        sync.Mutex
	latencies []time.Duration // of successes
	failures  map[string]int  // by category and code
	done      int
	first     error
}

func (t *tally) add(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	if err == nil {
		t.latencies = append(t.latencies, took)
		return
	}
	name := "other"
	if e := (*dspex.Error)(nil); errors.As(err, &e) {
		name = string(e.Category) + " " + e.Code
	}
	t.failures[name]++
	if t.first == nil {
		t.first = err
	}
}

func (t *tally) progress() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}

func bench(ctx context.Context, a *cli.App, c *dspex.Client, f *benchFlags, args dspex.Args) error {
	if f.session == "" {
		f.session = "load_test_" + strconv.FormatUint(rand.Uint64(), 36)
	}
	t := &tally{failures: map[string]int{}}
	bar := a.StartBar(func() string {
		return cli.BarOf(uint64(t.progress()), uint64(f.users*f.operations), "operations") //nolint:gosec // both count
	})
	began := time.Now()
	var users sync.WaitGroup
	for user := range f.users {
		users.Go(func() { runUser(ctx, c, f, args, user, t) })
	}
	users.Wait()
	took := time.Since(began)
	bar.Stop()
	if ctx.Err() != nil && t.done == 0 {
		return context.Cause(ctx)
	}
	err := sayBench(a, t, t.done, took)
	if ctx.Err() != nil {
		return &cli.Failure{Status: cli.ExitInterrupted, Text: fmt.Sprintf("interrupted after %d of %d operations", t.done, f.users*f.operations)}
	}
	return err
}

func runUser(ctx context.Context, c *dspex.Client, f *benchFlags, args dspex.Args, user int, t *tally) {
	session := fmt.Sprintf("%s_user_%d", f.session, user+1)
	for operation := 1; operation <= f.operations && ctx.Err() == nil; operation++ {
		given := args
		if len(given) == 0 && f.command == "predict" {
			given = dspex.Args{"question": fmt.Sprintf("Test question %d", operation)}
		}
		began := time.Now()
		_, err := c.Execute(ctx, session, f.command, given, dspex.WithTimeout(f.timeout), dspex.WithMaxRetries(f.retries))
		if ctx.Err() == nil { // what was cut off is no failure of the pool
			t.add(time.Since(began), err)
		}
	}
}

func sayBench(a *cli.App, t *tally, total int, took time.Duration) error {
	slices.Sort(t.latencies)
	successes := len(t.latencies)
	rate := float64(total) / took.Seconds()
	success := float64(successes) / float64(total)
	if !a.Text() {
		err := a.Say(map[string]any{
			"total_operations": total, "successes": successes, "failures": total - successes, "duration_ms": took.Milliseconds(),
			"ops_per_second": rate, "success_rate": success,
			"latency_ms":  map[string]float64{"p50": inMS(t.at(0.5)), "p90": inMS(t.at(0.9)), "p99": inMS(t.at(0.99)), "max": inMS(t.at(1))},
			"failures_by": t.failures,
		})
		return errors.Join(err, t.verdict())
	}
	a.Table(a.Out, "", []cli.Row{
		{"total_operations", fmt.Sprint(total)},
		{"successes", fmt.Sprint(successes)},
		{"failures", fmt.Sprint(total - successes)},
		{"duration_ms", fmt.Sprint(took.Milliseconds())},
		{"ops_per_second", fmt.Sprintf("%.1f", rate)},
		{"success_rate", fmt.Sprintf("%.4f", success)},
	})
	if successes > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", a.Paint(a.Out, cli.Dim, "latency of successes"))
		a.Table(a.Out, "  ", []cli.Row{{"p50", cli.Ms(t.at(0.5))}, {"p90", cli.Ms(t.at(0.9))}, {"p99", cli.Ms(t.at(0.99))}, {"max", cli.Ms(t.at(1))}})
	}
	if len(t.failures) > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", a.Paint(a.Out, cli.Red, "failures"))
		var rows []cli.Row
		for _, name := range slices.Sorted(maps.Keys(t.failures)) {
			rows = append(rows, cli.Row{cli.Word(name), fmt.Sprint(t.failures[name])})
		}
		a.Table(a.Out, "  ", rows)
		fmt.Fprintf(a.Out, "  first: %s\n", cli.Word(t.first.Error()))
	}
	return t.verdict()
}

func (t *tally) verdict() error {
	if len(t.failures) == 0 {
		return nil
	}
	if status := cli.ExitStatus(context.Background(), t.first); len(t.latencies) == 0 && status != daemon.ExitFailed {
		return &cli.Failure{Status: status, Text: "no operation succeeded: " + t.first.Error()}
	}
	return cli.ErrSilent
}

// at is the latency below which the share of the successes stayed (nearest rank).
func (t *tally) at(share float64) time.Duration {
	if len(t.latencies) == 0 {
		return 0
	}
	rank := int(share*float64(len(t.latencies)) + 0.999999)
	return t.latencies[min(max(rank, 1), len(t.latencies))-1]
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
