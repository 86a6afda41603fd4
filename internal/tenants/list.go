package tenants

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/conf"
)

// List reads the tenants of a directory, in order of their names.
func List(dir string) ([]Tenant, error) {
	index, _, err := read(dir)
	if err != nil {
		return nil, err
	}
	all := []Tenant{}
	for line := range strings.Lines(string(index)) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		m := entry.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%s: a line must be `NAME { include \"NAME.conf\" }`, got %q", filepath.Join(dir, Index), strings.TrimSpace(line))
		}
		t, err := readTenant(dir, m[1], m[2])
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tenant) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// variable is a reference to the broker's environment, which is not here: its value is nobody's business but the broker's.
var variable = regexp.MustCompile(`\$[A-Za-z_][A-Za-z0-9_]*`)

func readTenant(dir, name, file string) (Tenant, error) {
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return Tenant{}, fmt.Errorf("tenant %q: %w", name, err)
	}
	// A password in quotes has no references; one outside of them is read as a text.
	clean := regexp.MustCompile(`"[^"\n]*"|`+variable.String()).ReplaceAllStringFunc(string(text), func(s string) string {
		if s[0] == '$' {
			return `"variable"`
		}
		return s
	})
	clean = regexp.MustCompile(`\{\s*include\s+"[^"\n]*"\s*\}`).ReplaceAllString(clean, "{}")
	parsed, err := conf.Parse(clean)
	if err != nil {
		return Tenant{}, fmt.Errorf("tenant %q: %s must be a configuration of the broker: %w", name, path, err)
	}
	t := Tenant{Name: name, Users: []string{}}
	users, _ := parsed["users"].([]any)
	for _, u := range users {
		if one, ok := u.(map[string]any); ok {
			for _, key := range []string{"user", "username", "nkey"} {
				if who, ok := one[key].(string); ok {
					t.Users = append(t.Users, who)
				}
			}
		}
	}
	limits, _ := parsed["limits"].(map[string]any)
	for to, names := range map[*int64][]string{
		&t.Limits.Connections: {"max_connections", "max_conn"}, &t.Limits.Subscriptions: {"max_subscriptions", "max_subs"}, &t.Limits.Payload: {"max_payload", "max_pay"},
	} {
		for _, name := range names {
			if n, ok := limits[name].(int64); ok {
				*to = n
			}
		}
	}
	return t, nil
}
