package jobs

import (
	"fmt"
	"strings"
)

// keyed splits the name behind a key's prefix into its tokens, which are ids and the tenant before them; nil: no key is like that.
func keyed(name string, ids int) (of SessionRef, last string, ok bool) {
	tokens := strings.Split(name, ".")
	of.Tenant = DefaultTenant
	if len(tokens) == ids+1 {
		of.Tenant, tokens = tokens[0], tokens[1:]
		ok = of.Tenant != DefaultTenant && ValidTenant(of.Tenant)
	} else {
		ok = len(tokens) == ids
	}
	for _, id := range tokens {
		ok = ok && ValidSession(id)
	}
	if !ok {
		return SessionRef{}, "", false
	}
	if ids > 1 {
		of.ID = tokens[0]
	}
	return of, tokens[len(tokens)-1], true
}

// OursInSessions reports whether a component of this release may have written the value under the key in dspex_sessions.
func OursInSessions(key string, value []byte) bool {
	if len(key) < 2 {
		return false
	}
	if _, _, ok := keyed(key[2:], 1); !ok {
		return false
	}
	var err error
	switch key[:2] {
	case "s.":
		_, err = ParseRecord(value)
	case "h.":
		_, err = ParseAttemptRecord(value)
	case "a.":
		_, err = ReadState(value)
	default:
		return false
	}
	return err == nil
}

// OursInResults reports whether a component of this release may have written the value under the key in dspex_results.
func OursInResults(key string, value []byte) bool {
	if name, ok := strings.CutPrefix(key, "t."); ok {
		_, err := ParseAttemptRecord(value)
		_, _, ok = keyed(name, 1)
		return ok && err == nil
	}
	name, anonymous := strings.CutPrefix(key, "r.a.")
	ids := 1
	if !anonymous {
		if name, ids = strings.TrimPrefix(key, "r.s."), 2; name == key {
			return false
		}
	}
	of, job, ok := keyed(name, ids)
	if !ok {
		return false
	}
	_, err := ReadResult(of, job, value)
	return err == nil
}

// ReadResult is ParseResult of what lies under the key of a job's result: another job's is no outcome of it.
func ReadResult(of SessionRef, job string, value []byte) (*Result, error) {
	r, err := ParseResult(value)
	if err == nil && (r.Job != job || r.Session != "" && r.Session != of.ID) { // what earlier versions wrote may name no session
		return nil, fmt.Errorf("result: expected job %[2]q, got %[1]q", Clip(r.Job), job)
	}
	return r, err
}
