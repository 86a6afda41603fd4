package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/dashboard"
)

// DashboardPath is where the dashboard is.
const DashboardPath = dashboard.Root

// places are what is at this address, for who comes without a path.
var places = map[string]string{
	"dashboard": dashboard.Root, "openapi": "/openapi.json", "jobs": "/v1/jobs", "session_jobs": "/v1/sessions/{session}/jobs", "stats": "/v1/stats", "health": "/v1/health",
	"openai": "/v1", "mcp": "/mcp", "metrics": "/metrics", "livez": "/livez", "readyz": "/readyz",
}

// isBrowser reports whether a request is for a page that people read.
func isBrowser(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// entry leads a browser to the dashboard, and others to what there is.
func entry(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if isBrowser(r) {
		http.Redirect(w, r, dashboard.Root, http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", contract.JSON)
	_ = json.NewEncoder(w).Encode(map[string]any{"service": "dspex", "paths": places}) // a client that left
}
