package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link     = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	fileName = regexp.MustCompile("`((?:cmd|internal|python|contract|docs|test|examples)/[\\w./-]+\\.\\w+)`")
	function = regexp.MustCompile("`(\\w+)` in `([\\w./-]+\\.(?:go|py))`")
)

// TestPagesNameWhatIsThere: every link, every file and, where a page names in which file a function stands, the function.
func TestPagesNameWhatIsThere(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"../*.md", "*.md", "../contract/*.md", "../contract/vectors/*.md", "adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	checked := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
			checked++
		}
		for _, m := range fileName.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
			checked++
		}
		for _, m := range function.FindAllStringSubmatch(strings.ReplaceAll(text, "\n", " "), -1) {
			source, err := os.ReadFile(filepath.Join("..", m[2]))
			if err != nil || !regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|\s*(?:async )?def )`+m[1]+`\b`).Match(source) {
				t.Errorf("%s: no function %s in %s", page, m[1], m[2])
			}
			checked++
		}
	}
	if checked < 50 {
		t.Errorf("only %d names were found on %d pages: do the patterns still fit?", checked, len(pages))
	}
}
