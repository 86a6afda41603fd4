// Package grafana checks deploy/grafana.json with Grafana's own model of dashboards, and its expressions with Prometheus' parser against the
// metrics of a deployment that runs. It is a module of its own: these libraries are no part of dspex.
package grafana

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
)

const root = "../.."

// expressions are those of all panels, by the panel's title. Variables of Grafana have the values that it would put in.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile(filepath.Join(root, "deploy/grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var strict, d dashboard.Dashboard //nolint:staticcheck // the form that Grafana imports and Prometheus users have
	for _, err := range []error{strict.UnmarshalJSONStrict(raw), json.Unmarshal(raw, &d), d.Validate()} {
		if err != nil && err.Error() != "" { // the library returns empty lists of errors, and no panels then
			t.Error(err)
		}
	}
	found := map[string][]string{}
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		for _, target := range p.Panel.Targets {
			query, ok := target.(*prometheus.Dataquery)
			if !ok {
				t.Errorf("%s has a query of the type %T", *p.Panel.Title, target)
				continue
			}
			found[*p.Panel.Title] = append(found[*p.Panel.Title], strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h").Replace(query.Expr))
		}
	}
	return found
}

func TestEachExpressionOfTheDashboardHasMetricsOfADeployment(t *testing.T) {
	metrics := running(t)
	n := 0
	for title, list := range expressions(t) {
		for _, text := range list {
			expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
			if err != nil {
				t.Errorf("%s: %q: %v", title, text, err)
				continue
			}
			n++
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				if v, ok := node.(*parser.VectorSelector); ok && !metrics[v.Name] {
					t.Errorf("%s: a deployment has no metric %s", title, v.Name)
				}
				return nil
			})
		}
	}
	if n < 20 {
		t.Errorf("%d expressions", n)
	}
}

// running starts a deployment with HTTP, has it run a job, and returns the names of its metrics.
func running(t *testing.T) map[string]bool {
	t.Helper()
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("set DSPEX_TEST_PYTHON to the Python of `make setup`")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "dspex")
	if out, err := exec.Command("go", "-C", root, "build", "-o", program, "./cmd/dspex").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, "dev", "--engine", "stub", "--python", python, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	address := map[string]string{}
	for in := bufio.NewScanner(said); len(address) < 2 && in.Scan(); {
		if what, url, ok := strings.Cut(in.Text(), " "); ok && (what == "http" || what == "metrics") {
			address[what] = url
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	answer, err := http.Post(address["http"]+"/v1/sessions/s1/jobs", "application/json", strings.NewReader(`{"command":"echo","args":{"x":1}}`))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", answer, err)
	}
	_ = answer.Body.Close()
	names := map[string]bool{}
	for _, url := range []string{address["metrics"], address["http"] + "/metrics"} {
		page, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(page.Body)
		_ = page.Body.Close()
		if err != nil || page.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", url, page.StatusCode, err)
		}
		for _, row := range regexp.MustCompile(`(?m)^(\w+)(\{| )`).FindAllStringSubmatch(string(text), -1) {
			names[row[1]] = true
		}
	}
	return names
}
