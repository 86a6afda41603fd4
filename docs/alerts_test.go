package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAlertsNameMetricsThatAreThere: the page is made from the programs' output, another test keeps it so.
func TestAlertsNameMetricsThatAreThere(t *testing.T) {
	rules, err := os.ReadFile("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(dspex_\\w+)` \\| \\w+ \\| (.*?) \\|").FindAllStringSubmatch(string(page), -1) {
		labels[row[1]] = regexp.MustCompile(`\w+`).FindAllString(row[2], -1)
	}
	exprs := regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(rules), -1)
	if len(exprs) != strings.Count(string(rules), "- alert: ") || len(exprs) == 0 {
		t.Fatalf("%d expressions of %d alerts were found", len(exprs), strings.Count(string(rules), "- alert: "))
	}
	for _, expr := range exprs {
		for _, use := range regexp.MustCompile(`(dspex_\w+)(?:\{(\w+)=)?`).FindAllStringSubmatch(expr[1], -1) {
			known, ok := labels[use[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", expr[1], use[1])
			}
			if use[2] != "" && !slices.Contains(known, use[2]) {
				t.Errorf("%s: %s has the labels %v", expr[1], use[1], known)
			}
		}
		for _, by := range regexp.MustCompile(`by \((\w+)\) \((dspex_\w+)\)`).FindAllStringSubmatch(expr[1], -1) {
			if !slices.Contains(labels[by[2]], by[1]) {
				t.Errorf("%s: %s has the labels %v", expr[1], by[2], labels[by[2]])
			}
		}
	}
	for _, part := range []string{"severity:", "summary:", "action:"} {
		if strings.Count(string(rules), part) != len(exprs) {
			t.Errorf("each alert has one %s", part)
		}
	}
}
