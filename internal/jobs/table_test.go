package jobs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

var categories = []Category{Initialization, Connection, Communication, Timeout, Resource, HealthCheck, Session, Python, System}

// row is a category's line in the table of the pages.
func row(name string, number int, t Traits) string {
	retries := "none"
	switch {
	case t.Retries > 0 && t.Backoff.Kind == "list":
		delays := make([]string, t.Retries)
		for n := range delays {
			delays[n] = fmt.Sprint(int(t.Backoff.Delay(n+1) / time.Millisecond))
		}
		retries = fmt.Sprintf("%d: %s ms", t.Retries, strings.Join(delays, ", "))
	case t.Retries > 0:
		retries = fmt.Sprintf("%d %s", t.Retries, t.Backoff.Kind)
	}
	return fmt.Sprintf("| %s | %d | %s | %s | %s |", name, number, t.Severity, t.Strategy, retries)
}

func TestTheTableOfCategoriesIsTheSameEverywhere(t *testing.T) {
	var want []string
	for _, c := range categories {
		want = append(want, row("`"+string(c)+"`", contract.Number(string(c), ""), traits[c]))
		if c == Resource {
			want = append(want, row("`resource_error`, `"+CodeLMRateLimit+"` or `"+CodeLMServer+"`", contract.Number(string(c), ""), lmTraits))
		}
	}
	for _, path := range []string{"../../contract/job.md", "../../docs/failures.md"} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, table, found := strings.Cut(string(page), "| category | number | severity | recovery_strategy | default retries |\n|---|---|---|---|---|\n")
		table, _, ended := strings.Cut(table, "\n\n")
		if !found || !ended {
			t.Errorf("%s has no table of the categories", path)
		}
		got := strings.Split(table, "\n")
		if !slices.Equal(got, want) {
			t.Errorf("%s says\n%s\nwant\n%s", path, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestGoClientsAndWorkersSpellTheNineCategories(t *testing.T) {
	if len(categories) != 9 || len(traits) != 9 {
		t.Fatal("nine categories")
	}
	for _, path := range []string{"../contract/codes.go", "../../python/dspex_worker/errors.py"} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range categories {
			if !strings.Contains(string(source), `"`+string(c)+`"`) {
				t.Errorf("%s does not have %s", path, c)
			}
		}
	}
}
