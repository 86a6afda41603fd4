package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Bounds of the live streams. A viewer has no queue: it gets the newest figures when it has read the ones before.
const (
	mostViewers = 256
	beatTime    = 15 * time.Second // between two signs of life
)

// liveParts are the pages of which a part moves as a whole: the name of its template.
var liveParts = map[string]string{"hosts": "hosts-live", "breakers": "breakers-live", "jobs": "jobs-live", "logs": "logs-live"}

// live sends what moves as it moves.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	sc, err := s.scopeOf(r)
	if err != nil {
		noAnswer(w, err)
		return
	}
	part := r.URL.Query().Get("part")
	if _, ok := liveParts[part]; ok && !sc.fleet() {
		part = ""
	}
	watched, err := s.watch(sc)
	if err == nil && !s.enter(watched) {
		err = errBusy
	}
	if err != nil {
		refuse(w, http.StatusTooManyRequests, "Too many viewers", err.Error())
		return
	}
	defer s.leave(watched)
	headers(w)
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	beat := time.NewTicker(beatTime)
	defer beat.Stop()
	for {
		text, changed := watched.event(part)
		if _, err := w.Write(text); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			if _, err := w.Write([]byte(": \n\n")); err != nil || flush.Flush() != nil {
				return
			}
		case <-s.ctx.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) enter(w *watch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.viewers >= mostViewers {
		return false
	}
	s.viewers++
	w.mu.Lock()
	defer w.mu.Unlock()
	w.viewers++
	return true
}

func (s *Server) leave(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.viewers--
	w.mu.Lock()
	defer w.mu.Unlock()
	w.viewers--
	w.used = time.Now()
}

// event is the newest one for a page, made once for all its viewers.
func (w *watch) event(part string) ([]byte, <-chan struct{}) {
	w.mu.Lock()
	made, changed := w.made, w.changed
	text, known := w.parts[part]
	w.mu.Unlock()
	if known {
		return []byte(text), changed
	}
	one := live{Text: made.Text, State: made.State}
	if part == "overview" {
		one.Path = made.Path
	}
	if name := liveParts[part]; name != "" {
		one.HTML = w.part(part, name)
	}
	body, _ := json.Marshal(one) // texts
	var b bytes.Buffer
	b.WriteString("data: ")
	b.Write(body)
	b.WriteString("\n\n")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.made == made {
		if w.parts == nil {
			w.parts = map[string]string{}
		}
		w.parts[part] = b.String()
	}
	return b.Bytes(), changed
}

// part is the live part of a page.
func (w *watch) part(page, name string) string {
	var data any
	switch page {
	case "hosts":
		data = w.hosts()
	case "breakers":
		data = w.breakers()
	case "jobs":
		data = w.jobList(jobFilter{}, 1)
	case "logs":
		data = w.logs.newest()
	}
	var b strings.Builder
	if templates[page].ExecuteTemplate(&b, name, data) != nil {
		return ""
	}
	return b.String()
}
