package docs

import (
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/programtest"
)

// humans are verbs of people in comments about mechanisms, besides the phrases that no page may have.
var humans = map[*regexp.Regexp]string{
	regexp.MustCompile(`(?i)\b(?:hosts?|workers?|brokers?|dispatchers?|process(?:es)?|clients?|records?|cores?|drivers?|leaders?) (?:asks|knows?|believes?|thinks?|learns?|wants|tells?)\b`): "requests, has, accepts, reads, needs, reports",
	regexp.MustCompile(`(?i)\bnothing (?:says|tells)\b`): "shows",
}

// TestCommentsHaveNoBannedPhrase reads the comments of Go and the docstrings of Python. What stands between quotes is a name.
func TestCommentsHaveNoBannedPhrase(t *testing.T) {
	found := 0
	for path, text := range programtest.Sources(t, "..", ".go", ".py") {
		if strings.Contains(path, "/vendor/") || strings.HasPrefix(path, "docs/") {
			continue
		}
		for _, comment := range comments(t, path, text) {
			found++
			comment = quoted.ReplaceAllString(strings.Join(strings.Fields(comment), " "), "")
			for _, list := range []map[*regexp.Regexp]string{banned, humans} {
				for phrase, instead := range list {
					if phrase.MatchString(comment) {
						t.Errorf("%s: %q must be %s: %.200s", path, phrase.FindString(comment), instead, comment)
					}
				}
			}
		}
	}
	if found < 4000 {
		t.Errorf("found %d comments, want at least 4000: does their form still fit?", found)
	}
}

// commentWidth is the bound of a line of comment, a tab as one column.
const commentWidth = 146

// TestCommentsAreShortLinesOfShortSentences has the bound of a sentence from the pages.
func TestCommentsAreShortLinesOfShortSentences(t *testing.T) {
	for path, text := range programtest.Sources(t, "..", ".go", ".py") {
		if strings.Contains(path, "/vendor/") {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			if n := utf8.RuneCountInString(line); n > commentWidth && commentLine.MatchString(line) {
				t.Errorf("%s:%d: a line of comment must have at most %d columns, got %d", path, i+1, commentWidth, n)
			}
		}
		for _, comment := range comments(t, path, text) {
			for _, sentence := range sentences(example.ReplaceAllString(comment, "")) {
				if n := len(strings.Fields(sentence)); n > sentenceWords {
					t.Errorf("%s: a sentence must have at most %d words, got %d: split it: %.200s", path, sentenceWords, n, sentence)
				}
			}
		}
	}
}

var (
	commentLine = regexp.MustCompile(`^\s*(?://|#) `)
	example     = regexp.MustCompile(`(?m)^(?:\t| {4}|.*──).*$`) // code or a drawing in a comment

	quoted    = regexp.MustCompile("`[^`]*`|\"[^\"]*\"")
	docstring = regexp.MustCompile(`(?s)(?m:^)[ \t]*"""(.*?)"""|((?m:^[ \t]*#[^\n]*\n)+)`)
	margin    = regexp.MustCompile(`(?m)^[ \t]*#? ?`) // of a line
)

// comments are the groups of comment lines of a Go file, or the docstrings and groups of comment lines of a Python file.
func comments(t *testing.T, path, text string) (all []string) {
	if strings.HasSuffix(path, ".py") {
		for _, m := range docstring.FindAllStringSubmatch(text, -1) {
			all = append(all, strings.TrimSpace(margin.ReplaceAllString(m[1]+m[2], "")))
		}
		return all
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range f.Comments {
		all = append(all, strings.TrimSpace(group.Text()))
	}
	return all
}

func TestCommentsAreReadInBothLanguages(t *testing.T) {
	for path, text := range map[string]string{
		"a.go": "// The host\n// says it.\npackage a\n",
		"a.py": "\"\"\"The host\n   says it.\"\"\"\n",
		"b.py": "x = 1\n    # The host\n    # says it.\n",
	} {
		if got := comments(t, path, text); !slices.Equal(got, []string{"The host\nsays it."}) {
			t.Errorf("%s: got %q", path, got)
		}
	}
}
