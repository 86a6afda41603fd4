package docs

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// gatewayMetrics are those of the gateway, which docs/http.md names.
func gatewayMetrics(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("http.md")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`dspex_gateway_\w+`).FindAllString(string(page), -1)
}

func TestTheGrafanaDashboardNamesMetricsThatAreThere(t *testing.T) {
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(dspex_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(page), -1) {
		kinds[row[1]] = row[2]
	}
	gateway := gatewayMetrics(t)
	text, err := os.ReadFile("../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids, exprs := map[int]bool{}, 0
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: each has an id and a title of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			exprs++
			for _, name := range regexp.MustCompile(`dspex_\w+`).FindAllString(target.Expr, -1) {
				plain := strings.TrimSuffix(name, "_bucket")
				if kinds[plain] == "" && !slices.Contains(gateway, plain) {
					t.Errorf("%s: there is no metric %s", p.Title, name)
				}
				if kinds[plain] != "" && (plain != name) != (kinds[plain] == "histogram") {
					t.Errorf("%s: %s is a %s", p.Title, name, kinds[plain])
				}
			}
		}
	}
	if exprs < 20 {
		t.Errorf("%d expressions were found", exprs)
	}
}

func TestTheCollectorRenamesMetricsThatAreThere(t *testing.T) {
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../deploy/otel-collector.yml")
	if err != nil {
		t.Fatal(err)
	}
	renamed := regexp.MustCompile(`include: (\w+), action: update, new_name: ([\w.]+)`).FindAllStringSubmatch(string(text), -1)
	if len(renamed) != 4 {
		t.Fatalf("%d metrics are renamed", len(renamed))
	}
	for _, m := range renamed {
		if !strings.Contains(string(page), "\n| `"+m[1]+"` |") {
			t.Errorf("there is no metric %s", m[1])
		}
		if !strings.Contains(string(page), "| `"+m[2]) {
			t.Errorf("the page does not name %s", m[2])
		}
	}
}
