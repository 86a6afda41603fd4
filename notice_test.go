package dspex_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestNoticeNamesEveryModuleInThePrograms holds NOTICE: a table of module and license.
func TestNoticeNamesEveryModuleInThePrograms(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}`, "./cmd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out)))))
	notice, err := os.ReadFile("NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for line := range strings.Lines(string(notice)) {
		if module, license, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(line, "  ") && strings.TrimSpace(license) != "" {
			named = append(named, module)
		}
	}
	if !slices.Equal(named, linked) {
		t.Errorf("NOTICE must name the linked modules, sorted by path: got\n%s\nwant\n%s", strings.Join(named, "\n"), strings.Join(linked, "\n"))
	}
}
