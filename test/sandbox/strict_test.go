package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/echolm"
)

// model is a language model that notes which keys it was shown.
type model struct {
	address string
	mu      sync.Mutex
	keys    []string
}

func (m *model) seen() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Compact(slices.Clone(m.keys))
}

func (c *crime) model() *model {
	c.t.Helper()
	echo, err := echolm.New(echolm.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = echo.Run(ctx) })
	to, err := url.Parse(echo.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	m := &model{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: to.Scheme, Host: to.Host})
	forward.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.keys = append(m.keys, r.Header.Get("Authorization"))
		m.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	c.t.Cleanup(func() { server.Close(); stop(); all.Wait() })
	m.address = strings.TrimPrefix(server.URL, "http://")
	c.write("profiles.json", fmt.Sprintf(`{"default": "m", "profiles": {"m": {"provider": "openai_compatible", "model": "echo", "api_base": "%s%s", "api_key": "file:%s"}}}`,
		server.URL, to.Path, c.keyFile))
	return m
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func TestAtLevelStrictTheKeyStaysInTheHostAndNothingElseIsReached(t *testing.T) {
	bothStarts(t, func(t *testing.T, c *crime, start string) {
		m := c.model()
		host := c.host("--sandbox", "strict", "--start", start, "--engine", "dspy", "--lm", c.dir+"/profiles.json")
		if why := lacks("strict"); why != "" {
			host.refuses(why)
			return
		}
		host.ready()
		c.predicts()
		if keys := m.seen(); !slices.Equal(keys, []string{"Bearer " + secret}) {
			t.Errorf("the model was shown %q", keys)
		}
		for range 4 { // in both workers, more likely than not
			c.loot(c.call("search_memory", dspex.Args{"backwards": backwards(secret)}), 1)
		}
		c.loot(c.call("escape", dspex.Args{"address": m.address, "socket_file": c.socket}), 13)
		c.loot(c.call("steal", c.booty()), 30)
		if level := c.level(); level != "strict" {
			t.Errorf("it says that the level is %q", level)
		}
	})
}

func TestAtLevelUserTheKeyIsInTheWorker(t *testing.T) {
	c := plan(t)
	c.model()
	host := c.host("--sandbox", "user", "--workers", "1", "--overflow", "0", "--engine", "dspy", "--lm", c.dir+"/profiles.json")
	if why := lacks("user"); why != "" {
		host.refuses(why)
		return
	}
	host.ready()
	c.predicts()
	if got := c.call("search_memory", dspex.Args{"backwards": backwards(secret)})["key"]; got != "TAKEN: from memory" {
		t.Errorf("%v: either docs/security.md promises too little, or the test of level strict shows nothing", got)
	}
}

// predicts calls the model at once and in pieces.
func (c *crime) predicts() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	client := c.client()
	reply, err := client.ExecuteAnonymous(ctx, "predict", dspex.Args{"question": "what?"})
	if err != nil || reply.Outputs()["answer"] != "echo: what?" {
		c.t.Fatalf("got %+v, %v; want an answer", reply, err)
	}
	pieces := ""
	for chunk, err := range client.StreamAnonymous(ctx, "predict", dspex.Args{"question": "what?"}) {
		if err != nil {
			c.t.Fatal(err)
		}
		pieces += chunk.Text
	}
	if pieces != "echo: what?" {
		c.t.Errorf("got %q in pieces", pieces)
	}
}
