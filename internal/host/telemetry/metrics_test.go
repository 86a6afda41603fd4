package telemetry

import (
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

func TestEveryCategoryAndOutcomeIsCountedFromTheStart(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m := newMetrics()
	r.MustRegister(m.errors, m.jobs)
	m.ran(&lifecycle.Output{Err: jobs.Errorf(jobs.Timeout, "x", "")}, "")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, f := range families {
		for _, v := range f.GetMetric() {
			seen = append(seen, fmt.Sprintf("%s=%v", v.GetLabel()[0].GetValue(), v.GetCounter().GetValue()))
		}
	}
	want := []string{"cancelled=0", "communication=0", "connection=0", "expired=0", "failed=0", "health_check=0", "initialization=0", "python=0", "resource_error=0", "session=0", "succeeded=0", "system_error=0", "timeout=1"}
	slices.Sort(seen)
	if !slices.Equal(seen, want) {
		t.Errorf("%v", seen)
	}
}
