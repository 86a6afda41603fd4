package dashboard

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/dspex/dspex"
)

// usage is what one language model was used for.
type usage struct {
	Model         string
	Jobs          int // that used it
	Input, Output int64
}

// modelView is a language model with its circuit breaker.
type modelView struct {
	usage
	Batches usage
	Breaker *dspex.Breaker
}

// modelsView is the page of language models.
type modelsView struct {
	Models  []modelView
	Jobs    int // whose usage was read
	Batches int
	Fleet   bool
}

// Names of the counters of tokens, by provider.
var (
	inputs  = []string{"prompt_tokens", "input_tokens"}
	outputs = []string{"completion_tokens", "output_tokens"}
)

// usageOf reads the usage of language models, by model.
func usageOf(by map[string]map[string]int64) (all []usage) {
	for _, model := range slices.Sorted(maps.Keys(by)) {
		u := usage{Model: model}
		u.add(by[model])
		all = append(all, u)
	}
	return all
}

func (u *usage) add(counters map[string]int64) {
	for _, name := range inputs {
		u.Input += counters[name]
	}
	for _, name := range outputs {
		u.Output += counters[name]
	}
}

// PerJob is the mean of all tokens.
func (u usage) PerJob() string {
	if u.Jobs == 0 {
		return "–"
	}
	return count((u.Input + u.Output) / int64(u.Jobs))
}

// mostModels bounds the page.
const mostModels = 100

func (s *Server) models(ctx context.Context, _ *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	v, by := modelsView{Fleet: sc.fleet()}, map[string]*modelView{}
	of := func(model string) *modelView {
		if by[model] == nil {
			by[model] = &modelView{usage: usage{Model: model}}
		}
		return by[model]
	}
	page, err := sc.client.BatchesPage(ctx, 100, "")
	if err != nil {
		return nil, err
	}
	v.Batches = len(page.Items)
	for _, b := range page.Items {
		for model, counters := range b.Usage {
			m := of(model)
			m.Batches.Jobs++
			m.Batches.add(counters)
		}
	}
	for _, used := range sc.usageOfJobs(ctx, w) {
		v.Jobs++
		for model, counters := range used {
			m := of(model)
			m.Jobs++
			m.add(counters)
		}
	}
	now, _ := w.last()
	for i, b := range now.Breakers {
		if name, ok := strings.CutPrefix(b.Name, "lm."); ok {
			of(name).Breaker = &now.Breakers[i]
		}
	}
	for _, m := range by {
		v.Models = append(v.Models, *m)
	}
	slices.SortFunc(v.Models, func(a, b modelView) int { return cmp.Or(b.Jobs-a.Jobs, strings.Compare(a.Model, b.Model)) })
	v.Models = v.Models[:min(len(v.Models), mostModels)]
	return v, nil
}

// usageOfJobs reads what the latest jobs used.
func (sc scope) usageOfJobs(ctx context.Context, w *watch) []map[string]map[string]int64 {
	latest, _ := w.tail.list(func(t *track) bool { return t.Tenant == sc.tenant && t.State() == "succeeded" }, 0, mostLookedUp)
	found := make([]map[string]map[string]int64, len(latest))
	places := make(chan struct{}, lookedUpAtOnce)
	var all sync.WaitGroup
	for i, t := range latest {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if job, err := sc.client.GetJob(ctx, dspex.JobRef{Session: t.Session, ID: t.Job}); err == nil && job.Reply != nil {
				found[i] = counters(job.Reply.Usage)
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(found, func(m map[string]map[string]int64) bool { return m == nil })
}

// counters are the numbers of a reply's usage.
func counters(used map[string]any) map[string]map[string]int64 {
	all := map[string]map[string]int64{}
	for model, values := range used {
		fields, _ := values.(map[string]any)
		one := map[string]int64{}
		for name, value := range fields {
			if n, ok := value.(float64); ok {
				one[name] = int64(n)
			}
		}
		all[model] = one
	}
	return all
}
