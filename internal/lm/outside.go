package lm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// OutsideHost is the host name under which a worker without a network requests a language model. Its first path segment names the
// endpoint. It resolves nowhere.
const OutsideHost = "model.invalid"

// placeholder stands where a worker would have a key.
const placeholder = "key-stays-in-the-host"

// Outside keeps keys out of the workers: from now on profiles lead to OutsideHost, and Serve answers what workers request there. It refuses
// profiles whose client cannot do without a network.
func (r *Registry) Outside() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints = map[string]endpoint{}
	for _, name := range slices.Sorted(maps.Keys(r.profiles)) {
		if r.profiles[name].Engine == Litellm {
			return fmt.Errorf("LM profile %q: engine litellm opens connections of its own, which workers cannot at level strict of --sandbox", name)
		}
	}
	return nil
}

// outside gives a profile an endpoint, and what the worker sees instead of address and key. ok is false if workers have them themselves.
func (r *Registry) outside(p Profile, secret string) (base, key string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endpoints == nil {
		return "", "", false
	}
	known := providers[p.Provider]
	e := endpoint{header: "Authorization", prefix: "Bearer ", secret: secret}
	if known.keyHeader != "" {
		e.header, e.prefix = known.keyHeader, ""
	}
	address := p.APIBase
	if address == "" {
		address = known.base
	}
	e.base, _ = url.Parse(address) // checked, or our own
	sum := sha256.Sum256([]byte(e.header + "\x00" + address + "\x00" + secret))
	id := hex.EncodeToString(sum[:16])
	r.endpoints[id] = e
	if secret != "" {
		key = placeholder
	}
	return "http://" + OutsideHost + "/" + id, key, true
}

func (r *Registry) endpoint(id string) (endpoint, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.endpoints[id]
	return e, ok
}

// target is where a request to OutsideHost goes: below the profile's address, and nowhere else.
func (r *Registry) target(asked *url.URL) (endpoint, *url.URL, bool) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(asked.EscapedPath(), "/"), "/")
	e, ok := r.endpoint(id)
	if !ok {
		return e, nil, false
	}
	for part := range strings.SplitSeq(rest, "/") {
		plain, err := url.PathUnescape(part)
		if err != nil || plain == "." || plain == ".." || strings.ContainsAny(plain, `/\`) {
			return e, nil, false
		}
	}
	to := *e.base
	to.User, to.Fragment = nil, ""
	to.RawPath = strings.TrimSuffix(e.base.EscapedPath(), "/") + "/" + rest
	path, err := url.PathUnescape(to.RawPath)
	to.Path = path
	query := asked.Query()
	query.Del("key")
	to.RawQuery = query.Encode()
	return e, &to, err == nil
}

// keyHeaders are those in which some provider takes a key: what a worker puts there does not leave.
var keyHeaders = []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key", "Api-Key", "Cookie", "Proxy-Authorization"}

// sign puts the key where the provider expects it.
func (e endpoint) sign(h http.Header) {
	for _, name := range keyHeaders {
		h.Del(name)
	}
	if e.secret != "" {
		h.Set(e.header, e.prefix+e.secret)
	}
	if user := e.base.User; user != nil && e.secret == "" {
		password, _ := user.Password()
		request := http.Request{Header: h}
		request.SetBasicAuth(user.Username(), password)
	}
}
