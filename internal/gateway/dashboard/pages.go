package dashboard

import (
	"context"
	"net/http"
	"slices"

	"github.com/dspex/dspex"
)

var pages = []page{
	{Root, "overview", "Overview", true, everybody, nil, (*Server).overview},
	{Root + "/jobs", "jobs", "Jobs", true, everybody, []string{"session", "id", "state", "command", "page"}, (*Server).jobs},
	{Root + "/job", "job", "Job", false, everybody, []string{"session", "id", "show"}, (*Server).job},
	{Root + "/kept", "kept", "Jobs that are kept", false, operator, []string{"session", "state", "command", "page"}, (*Server).kept},
	{Root + "/sessions", "sessions", "Sessions", true, operator, []string{"prefix", "host", "cursor"}, (*Server).sessions},
	{Root + "/session", "session", "Session", false, operator, []string{"id", "show"}, (*Server).session},
	{Root + "/hosts", "hosts", "Hosts", true, fleet, nil, (*Server).hostsPage},
	{Root + "/worker", "worker", "Worker", false, fleet, []string{"name"}, (*Server).workerPage},
	{Root + "/breakers", "breakers", "Breakers", true, fleet, nil, (*Server).breakersPage},
	{Root + "/letters", "letters", "Dead letters", true, operator, []string{"session", "category", "code", "replayed", "cursor"}, (*Server).deadLetters},
	{Root + "/letter", "letter", "Dead letter", false, operator, []string{"seq", "show"}, (*Server).deadLetter},
	{Root + "/logs", "logs", "Logs", true, fleet, []string{"level", "name", "session", "text"}, (*Server).logsPage},
	{Root + "/models", "models", "Models", true, unprefixed, nil, (*Server).models},
	{Root + "/batches", "batches", "Batches", true, unprefixed, []string{"cursor"}, (*Server).batches},
	{Root + "/batch", "batch", "Batch", false, unprefixed, []string{"id"}, (*Server).batch},
}

// show serves a page.
func (s *Server) show(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for key := range r.URL.Query() {
			if key != "done" && !slices.Contains(p.keys, key) {
				refuse(w, http.StatusBadRequest, "Unknown key", "The address has an unknown key: remove everything behind the question mark.")
				return
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*requestTime)
		defer cancel()
		sc, err := s.scopeOf(r)
		if err != nil {
			noAnswer(w, err)
			return
		}
		if !p.needs.met(sc) {
			refuse(w, http.StatusForbidden, "Not for this token", "This page needs a token with the role operate and without a prefix of sessions.")
			return
		}
		watched, err := s.watch(sc)
		if err != nil {
			refuse(w, http.StatusServiceUnavailable, "Too many viewers", err.Error())
			return
		}
		body, err := p.read(s, ctx, r, sc)
		if err != nil {
			noAnswer(w, err)
			return
		}
		all := layout{Title: p.Title, Path: p.Path, Part: p.file, Body: body, Notice: notice(r.URL.Query().Get("done")), Live: watched.now(), Tenants: watched.tenants(),
			Scope: layoutScope{sc.tenant, sc.filtered, sc.operates, sc.token, sc.fleet()}}
		for _, other := range pages {
			if other.nav && other.needs.met(sc) {
				all.Nav = append(all.Nav, other)
			}
		}
		render(w, http.StatusOK, p.file, all)
	}
}

// Declare registers the paths.
func (s *Server) Declare(mux *http.ServeMux) {
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.watches, s.narrow = map[string]*watch{}, map[*dspex.Client]bool{}
	mux.HandleFunc("GET "+Root+"/login", s.getLogin)
	mux.HandleFunc("POST "+Root+"/login", s.postLogin)
	mux.HandleFunc("POST "+Root+"/logout", s.sameOrigin(s.logout))
	mux.HandleFunc("GET "+Root+"/assets/{file}", asset)
	mux.HandleFunc("GET "+Root+"/live", s.live)
	mux.HandleFunc("POST "+Root+"/act", s.sameOrigin(s.act))
	mux.HandleFunc("POST "+Root+"/tenant", s.sameOrigin(s.chooseTenant))
	for _, p := range pages {
		mux.HandleFunc("GET "+p.Path, s.show(p))
	}
}
