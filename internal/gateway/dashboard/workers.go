package dashboard

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/dspex/dspex"
)

// Bounds of the page of a worker.
const (
	mostOfWorker = 20 // of its latest attempts
	mostStacks   = 3
)

// workerPage is what was seen of one worker.
type workerPage struct {
	Worker  string
	Host    string
	Known   bool
	Now     workerView
	Running []ranJob
	Latest  []ranJob
	Stacks  []stackView
}

// ranJob is an attempt in the worker, and its job.
type ranJob struct {
	attempt
	key     jobKey
	Session string
	Job     string
	Command string
	For     time.Duration // it runs
}

// stackView is where the worker stood when it hung: the host takes the stacks before it ends it, and they are in the job's reply.
type stackView struct {
	ranJob
	Stack string // "": the job was run again, or is not kept any more
}

// hung reports whether the attempt ended because its worker did not answer or died.
func (a attempt) hung() bool { return a.Code == "worker_hung" || a.Code == "worker_died" }

// ofWorker returns what was seen of a worker, the latest attempts first, without stacks.
func (t *tail) ofWorker(name string, now time.Time) workerPage {
	v := workerPage{Worker: name}
	for host, list := range t.workersOf(now) {
		if i := slices.IndexFunc(list, func(w workerView) bool { return w.Worker == name }); i >= 0 {
			v.Host, v.Known, v.Now = host, true, list[i]
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, j := range t.jobs {
		for _, a := range j.Attempts {
			if a.Worker != name {
				continue
			}
			one := ranJob{attempt: a, key: key, Session: j.Session, Job: j.Job, Command: j.Command}
			if a.Running {
				one.For = now.Sub(a.At)
				v.Running = append(v.Running, one)
				continue
			}
			v.Latest = append(v.Latest, one)
			if a.hung() {
				v.Stacks = append(v.Stacks, stackView{ranJob: one})
			}
		}
	}
	if w := t.workers[name]; w != nil {
		for key, since := range w.Running {
			if !slices.ContainsFunc(v.Running, func(r ranJob) bool { return r.key == key }) { // its track is forgotten
				v.Running = append(v.Running, ranJob{attempt: attempt{At: since, Running: true}, key: key, Session: key.session, Job: key.job, For: now.Sub(since)})
			}
		}
	}
	latest := func(a, b ranJob) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Job, b.Job)) }
	slices.SortFunc(v.Running, func(a, b ranJob) int { return latest(b, a) })
	slices.SortFunc(v.Latest, latest)
	slices.SortFunc(v.Stacks, func(a, b stackView) int { return latest(a.ranJob, b.ranJob) })
	v.Running, v.Latest, v.Stacks = v.Running[:min(len(v.Running), mostOfWorker)], v.Latest[:min(len(v.Latest), mostOfWorker)], v.Stacks[:min(len(v.Stacks), mostStacks)]
	return v
}

// stack reads where an attempt hung from the reply of its job.
func (w *watch) stack(ctx context.Context, one ranJob) string {
	client := w.scope.own
	if one.key.tenant != w.scope.ownTenant {
		client = client.Admin().Tenant(one.key.tenant)
	}
	job, err := client.GetJob(ctx, dspex.JobRef{Session: one.Session, ID: one.Job})
	if e := asError(job.Err); err == nil && e != nil && e.Attempt == one.Number {
		return e.Traceback
	}
	return ""
}

func (s *Server) workerPage(ctx context.Context, r *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	v := w.tail.ofWorker(r.URL.Query().Get("name"), time.Now())
	for i := range v.Stacks {
		v.Stacks[i].Stack = w.stack(ctx, v.Stacks[i].ranJob)
	}
	return v, nil
}
