package dashboard

import (
	"context"
	"net/http"

	"github.com/dspex/dspex"
)

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
