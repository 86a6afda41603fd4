package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/gateway/openai"
	"github.com/dspex/dspex/internal/wire"
)

// Headers of each answer.
var nosniff, noStore = []string{"nosniff"}, []string{"no-store"}

// guard bounds what requests may cost, and refuses those that a page in a user's browser sends.
func (g *Gateway) guard(next http.Handler) http.Handler {
	places := make(chan struct{}, g.cfg.MaxRequests)
	browsers := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(plain http.ResponseWriter, r *http.Request) {
		began := time.Now()
		w := &boundedWriter{ResponseWriter: plain, control: http.NewResponseController(plain), most: g.cfg.WriteTime}
		route, of := "", &caller{}
		g.metrics.active.Inc()
		defer func() {
			g.metrics.active.Dec()
			g.metrics.served(route, w.status, began, of.span)
			of.span.end(g.cfg.Traces, r, route, w.status, began)
			of.span.tellFailure(g.cfg.Log, route, w.status)
		}()
		h := w.Header()
		h["X-Content-Type-Options"], h["Cache-Control"] = nosniff, noStore
		c, p := g.admit(browsers, r)
		if p != nil {
			refuse(w, r, p)
			return
		}
		if r.URL.Path != "/livez" { // which reports that the process serves
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			default:
				refuse(w, r, busy("the gateway has reached its limit of requests"))
				return
			}
		}
		c.span, of = beginSpan(g.cfg.Traces, r), c
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
		if c.body, p = g.takeBody(w, r); p != nil {
			refuse(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
		route = r.Pattern
	})
}

// admit returns who sends a request that may be served.
func (g *Gateway) admit(browsers *http.CrossOriginProtection, r *http.Request) (*caller, *problem) {
	if g.tokens == nil && !g.expectedHost(r.Host) {
		return nil, refused(http.StatusForbidden, contract.CodeBadHeader, "header.Host", "localhost or an address of the loopback interface", "the Host header does not name this gateway")
	}
	if browsers.Check(r) != nil {
		return nil, refused(http.StatusForbidden, contract.CodeBadHeader, "header.Origin", "left out", "the request comes from a page of another origin")
	}
	return g.identify(r)
}

// refuse answers in the form that the path's clients read.
func refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	if dashboard.Serves(r.URL.Path) {
		maps.Copy(w.Header(), p.GetHeaders())
		dashboard.Refuse(w, r, p.Status, p.Detail)
		return
	}
	if !openai.Serves(r.URL.Path) {
		p.write(w, traceID(r.Context()))
		return
	}
	maps.Copy(w.Header(), p.GetHeaders())
	openai.Refuse(w, p.Status, p.Code, p.Path, p.Detail)
}

// expectedHost refuses names that a foreign page may have given to the loopback address.
func (g *Gateway) expectedHost(named string) bool {
	host, _, err := net.SplitHostPort(named)
	if err != nil {
		host = named
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return isLoopback(host)
}

// What the dashboard's forms are.
const (
	formType = "application/x-www-form-urlencoded"
	mostForm = 8 << 10
)

// takeBody reads the body, as much of it as may be and as long as it may take, and returns it if it is JSON. It must be JSON as the contract
// has it, or a form of the dashboard: what is refused here would be changed on its way, such as a key that stands twice.
func (g *Gateway) takeBody(w *boundedWriter, r *http.Request) ([]byte, *problem) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	expected, most := contract.JSON, g.cfg.MaxBody
	form := dashboard.Serves(r.URL.Path)
	if form {
		expected, most = formType, mostForm
	}
	if !isType(r.Header.Get("Content-Type"), expected) {
		return nil, refused(http.StatusUnsupportedMediaType, contract.CodeBadHeader, "header.Content-Type", expected, "the body must be "+expected)
	}
	_ = w.control.SetReadDeadline(time.Now().Add(g.cfg.BodyTime)) // a connection without deadlines has no clients that wait
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	_ = w.control.SetReadDeadline(time.Time{})
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		p := refused(http.StatusRequestEntityTooLarge, contract.CodeTooLarge, "", "", "the body is larger than the gateway's limit")
		p.Hint = "send less, or a reference of your own that the program reads; operators: --max-body of the gateway"
		w.Header().Set("Connection", "close")
		return nil, p
	}
	if err != nil {
		w.Header().Set("Connection", "close")
		return nil, refused(http.StatusRequestTimeout, contract.CodeBadRequest, "", "", "the body did not arrive completely in time")
	}
	if r.Body = io.NopCloser(bytes.NewReader(body)); form {
		return nil, nil
	}
	if _, err := wire.FromJSON(body, wire.Request); err != nil {
		p := refused(http.StatusBadRequest, contract.CodeBadRequest, "", "", "the body is not a value of the contract")
		if e, ok := errors.AsType[*wire.Error](err); ok {
			p.Path, p.Expected, p.Detail = e.Path, e.Expected, "the body is invalid: "+e.Problem
		}
		return nil, p
	}
	return body, nil
}

// isType reports whether the header Content-Type names a type.
func isType(header, expected string) bool {
	if header == expected { // as most clients write it
		return true
	}
	kind, _, err := mime.ParseMediaType(header)
	return err == nil && kind == expected
}

// boundedWriter gives each write of an answer a time: a client that does not read is left.
type boundedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	most    time.Duration
	status  int
	bounded time.Time
}

// Unwrap is for http.ResponseController.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader writes the status.
func (w *boundedWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.bound()
	w.ResponseWriter.WriteHeader(status)
}

func (w *boundedWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.bound()
	return w.ResponseWriter.Write(b)
}

// FlushError sends what was written.
func (w *boundedWriter) FlushError() error {
	w.bound()
	return w.control.Flush()
}

// bound moves the end of the next write, unless it was moved a moment ago.
func (w *boundedWriter) bound() {
	if now := time.Now(); now.Sub(w.bounded) > w.most/shareLate {
		w.bounded = now
		_ = w.control.SetWriteDeadline(now.Add(w.most))
	}
}

// shareLate is the share of its time that a write may have lost.
const shareLate = 16
