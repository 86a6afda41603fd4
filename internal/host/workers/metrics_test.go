package workers

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/pyproc"
)

func TestStartsEndsAndDeathsOfWorkersAreToldApart(t *testing.T) {
	edge := func(from, to pyproc.State, n uint64) pyproc.EdgeCount {
		return pyproc.EdgeCount{From: from, To: to, N: n}
	}
	got := countEdges([]pyproc.EdgeCount{
		edge(pyproc.Empty, pyproc.Spawning, 4), edge(pyproc.Backoff, pyproc.Spawning, 3), edge(pyproc.Quarantined, pyproc.Spawning, 2),
		edge(pyproc.Warming, pyproc.Killing, 1), edge(pyproc.Handshake, pyproc.Exited, 1), edge(pyproc.Killing, pyproc.Exited, 5),
		edge(pyproc.Busy, pyproc.Exited, 7), edge(pyproc.Idle, pyproc.Dumping, 1), edge(pyproc.Dumping, pyproc.Killing, 1), edge(pyproc.Draining, pyproc.Stopping, 9), edge(pyproc.Stopping, pyproc.Exited, 9),
		edge(pyproc.Idle, pyproc.Busy, 1000), edge(pyproc.Cancelling, pyproc.Killing, 1),
	})
	if got != (edgeCounts{restarts: 5, failures: 2, deaths: 9}) {
		t.Errorf("%+v", got)
	}
}

func TestEveryEdgeOfTheWorkersStatesIsCountedFromTheStart(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(Metrics(pyproc.New(pyproc.Config{Name: "h", Size: 1})))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dspex_worker_transitions_total" && len(f.GetMetric()) == len(pyproc.Edges()) && len(pyproc.Edges()) > 40 {
			return
		}
	}
	t.Errorf("not every edge is there: %v", families)
}
