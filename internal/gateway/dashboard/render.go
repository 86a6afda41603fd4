package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"mime"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

//go:embed assets pages
var files embed.FS

// layout is what every page has around its content.
type layout struct {
	Title   string
	Path    string
	Nav     []page
	Scope   layoutScope
	Part    string // of the live stream
	Live    *live
	Tenants []string
	Notice  string
	Body    any
}

// layoutScope is what a page shows of its caller.
type layoutScope struct {
	Tenant                    string
	Filtered, Operates, Token bool
	Fleet                     bool
}

// page is one page: what it queries the service for, and the keys that its address may have.
type page struct {
	Path, file, Title string
	nav               bool
	needs             need
	keys              []string
	read              func(*Server, context.Context, *http.Request, scope) (any, error)
}

// templates are the pages, each with the layout around it.
var templates = parse()

func parse() map[string]*template.Template {
	base := template.Must(template.New("").Funcs(functions).ParseFS(files, "pages/layout.html", "pages/parts.html"))
	all := map[string]*template.Template{}
	entries, _ := files.ReadDir("pages")
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".html")
		if name != "layout" && name != "parts" {
			all[name] = template.Must(template.Must(base.Clone()).ParseFS(files, "pages/"+e.Name()))
		}
	}
	return all
}

var functions = template.FuncMap{
	"span":    insight.Span,
	"ms":      milliseconds,
	"size":    insight.Size,
	"ago":     func(t time.Time) string { return since(t, time.Now()) },
	"asset":   func(name string) string { return Root + "/assets/" + name + "?v=" + versions[name] },
	"here":    func(nav, path string) bool { return nav == path || parents[path] == nav },
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"part":    func(list []dspex.SessionProgram, n int) []dspex.SessionProgram { return list[:min(n, len(list))] },
	"capital": capital,
	"count":   func(n any) string { return count(reflect.ValueOf(n).Int()) }, // of any integer
	"rate":    perSecond,
	"plot": func(l *live, name, title, unit, colour, second, secondKey string) plot {
		return plot{l, name, title, unit, colour, second, secondKey}
	},
}

// parents are the pages of the navigation that others belong to.
var parents = map[string]string{
	Root + "/worker": Root + "/hosts",
	Root + "/job":    Root + "/jobs", Root + "/kept": Root + "/jobs", Root + "/session": Root + "/sessions", Root + "/letter": Root + "/letters", Root + "/batch": Root + "/batches",
}

// plot is a graph of the overview.
type plot struct {
	Live                                         *live
	Name, Title, Unit, Colour, Second, SecondKey string
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return insight.Span(now.Sub(t)) + " ago"
}

// policy lets a page load what this server serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

func render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates[name].ExecuteTemplate(&b, "layout", data); err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	headers(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// message is a page with a text only.
type message struct{ Head, Text, Hint string }

// Refuse answers a request for a page that was refused before it came here.
func Refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	if status == http.StatusUnauthorized && r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/live") {
		headers(w)
		http.Redirect(w, r, Root+"/login", http.StatusSeeOther)
		return
	}
	refuse(w, status, http.StatusText(status), text)
}

func refuse(w http.ResponseWriter, status int, head, text string) {
	render(w, status, "message", layout{Title: head, Body: message{Head: head, Text: text}})
}

// noAnswer reports why the service did not answer.
func noAnswer(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok {
		e = &dspex.Error{Code: "error", Message: err.Error()}
	}
	status := http.StatusBadGateway
	switch {
	case strings.HasSuffix(e.Code, "_unknown"):
		status = http.StatusNotFound
	case errors.Is(err, dspex.ErrInvalid):
		status = http.StatusBadRequest
	}
	render(w, status, "message", layout{Title: "No answer", Body: message{Head: sentence(e.Message), Text: e.Code, Hint: e.Hint}})
}

func sentence(text string) string {
	if text == "" {
		return "It failed"
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// versions are the hashes of the assets, so that browsers may keep them.
var versions = func() map[string]string {
	all := map[string]string{}
	entries, _ := files.ReadDir("assets")
	for _, e := range entries {
		b, _ := files.ReadFile("assets/" + e.Name())
		sum := sha256.Sum256(b)
		all[e.Name()] = hex.EncodeToString(sum[:6])
	}
	return all
}()

func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	b, err := files.ReadFile("assets/" + path.Base(name))
	if err != nil || versions[name] == "" {
		refuse(w, http.StatusNotFound, "Not found", "There is no such file.")
		return
	}
	headers(w)
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if r.URL.Query().Get("v") == versions[name] {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(b)
}

func capital(text string) string {
	text = strings.TrimSuffix(text, ".")
	if text == "" {
		return "It failed"
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
