package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// proseWidth is the width of prose. Tables, code and headings have the width that they need.
const proseWidth = 140

// generated pages are written by other tests of this package.
var generated = []string{"config.md", "metrics.md", "CHANGELOG.md"}

// TestProseHasOneWidth: `go test ./docs -update` breaks the lines again.
func TestProseHasOneWidth(t *testing.T) {
	for _, pattern := range []string{"../*.md", "*.md", "../contract/*.md", "adr/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			if slices.Contains(generated, filepath.Base(page)) {
				continue
			}
			b, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			switch now := reflow(string(b)); {
			case now == string(b):
			case *update:
				if err := os.WriteFile(page, []byte(now), 0o600); err != nil {
					t.Error(err)
				}
			default:
				t.Errorf("%s: its prose is not %d columns wide: go test ./docs -update", page, proseWidth)
			}
		}
	}
}

// sentenceWords is the bound of a sentence; a span of code is one word.
const sentenceWords = 39

func TestNoSentenceIsLongerThanItsBound(t *testing.T) {
	for _, page := range pages(t) {
		for _, sentence := range sentences(read(t, page)) {
			if n := len(strings.Fields(sentence)); n > sentenceWords {
				t.Errorf("%s: a sentence must have at most %d words, got %d: split it: %.200s", page, sentenceWords, n, sentence)
			}
		}
	}
}

// banned are phrases that a native reader stumbles over, with what to write instead.
var banned = map[*regexp.Regexp]string{
	regexp.MustCompile(`(?i)\banew\b`):                     "again",
	regexp.MustCompile(`(?i)\bso many\b`):                  "the number, or 'that many'",
	regexp.MustCompile(`(?i)\bwhat (?:was|is) said\b`):     "what it is: the message, the answer",
	regexp.MustCompile(`(?i)\bhas the say\b`):              "decides",
	regexp.MustCompile(`(?i)\b(?:is|are|was|were) told\b`): "receives, or: is notified",
	regexp.MustCompile(`(?i)\bhears?\b`):                   "receives",
	regexp.MustCompile(`(?i)\b(?:it|hosts?|workers?|brokers?|dispatchers?|records?|messages?|logs?|health) says?\b`):                  "reports, contains",
	regexp.MustCompile(`(?i)\b(?:it|hosts?|workers?|brokers?|dispatchers?|lanes?|leaders?) (?:asks?|asked)\b`):                        "requests, queries, checks",
	regexp.MustCompile(`(?i)\b(?:hosts?|workers?|brokers?|dispatchers?|process(?:es)?) (?:believes?|notices?|remembers?|forgets?)\b`): "treats as, detects, keeps, drops",
	regexp.MustCompile(`(?i)\bmakes? (?:no )?sense\b`):                                                                                "is valid, is invalid",
	regexp.MustCompile(`(?i)\bof whoever\b`):                                                                                          "of the caller, the owner, the user",
	regexp.MustCompile(`(?i)\b(?:earlier|later|another) li(?:fe|ves)\b`):                                                              "a recreated store, an earlier incarnation",
	regexp.MustCompile(`(?i)\bfail(?:s|ed)? for good\b`):                                                                              "permanently",
	regexp.MustCompile(`\brooms\b`):                                                                                                   "packages",
}

func TestProseHasNoBannedPhrase(t *testing.T) {
	for _, page := range pages(t) {
		for _, sentence := range sentences(read(t, page)) {
			for phrase, instead := range banned {
				if phrase.MatchString(sentence) {
					t.Errorf("%s: %q must be %s: %.200s", page, phrase.FindString(sentence), instead, sentence)
				}
			}
		}
	}
}

// pages are all pages of prose.
func pages(t *testing.T) (all []string) {
	for _, pattern := range []string{"../*.md", "*.md", "../contract/*.md", "adr/*.md", "../contract/*/*.md", "../internal/lifecycle/testdata/*.md", "../python/*/*.md"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

func read(t *testing.T, page string) string {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	citations = regexp.MustCompile(`^- (?:Tests|Mutants):`) // names of tests and mutants
	span      = regexp.MustCompile("`[^`]*`")
	target    = regexp.MustCompile(`\]\([^)]*\)`)
	ends      = regexp.MustCompile(`[.!?]["”)*]*\s+`)
)

// sentences are those of the paragraphs and items of a page; code, tables and headings have none.
func sentences(page string) (all []string) {
	for _, p := range paragraphs(page) {
		p = target.ReplaceAllString(span.ReplaceAllString(p, "`code`"), "]")
		if !citations.MatchString(p) {
			all = append(all, ends.Split(p, -1)...)
		}
	}
	return all
}

func paragraphs(page string) (all []string) {
	paragraph, code := "", false
	for line := range strings.SplitSeq(page+"\n\n", "\n") {
		fenced := fence.MatchString(line)
		switch {
		case fenced, code, apart.MatchString(line), item.MatchString(line):
			all, paragraph = append(all, paragraph), ""
		}
		switch {
		case fenced:
			code = !code
		case !code && !apart.MatchString(line):
			paragraph += strings.TrimSpace(line) + " "
		}
	}
	return all
}

func TestSentencesAreThoseOfProse(t *testing.T) {
	page := "# A heading\n\nOne `span. of code` here. Two\ngoes on.\n\n| a table. |\n\n```\ncode. here\n```\n\n- Tests: `TestA`.\n- an item\n"
	got := sentences(page)
	want := []string{"One `code` here", "Two goes on", "- an item "}
	if got = slices.DeleteFunc(got, func(s string) bool { return s == "" }); !slices.Equal(got, want) {
		t.Errorf("sentences: got %q, want %q", got, want)
	}
}

func TestProseIsBrokenAtSpacesAndNothingElseChanges(t *testing.T) {
	long := strings.Repeat("word ", 40)
	for name, c := range map[string]struct{ in, want string }{
		"short lines are joined": {"one\ntwo\n", "one two\n"},
		"code stays":             {"```\na\nb\n```\n", "```\na\nb\n```\n"},
		"tables stay":            {"| a |\n|---|\n| " + long + "|\n", "| a |\n|---|\n| " + long + "|\n"},
		"items hang":             {"- one\n  two\n- three\n", "- one two\n- three\n"},
		"a span is not broken": {strings.Repeat("x", 130) + " `a span of code`\n",
			strings.Repeat("x", 130) + "\n`a span of code`\n"},
		"no line becomes an item": {strings.Repeat("x", 138) + " - y\n", strings.Repeat("x", 138) + " -\ny\n"},
	} {
		if got := reflow(c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

var (
	item    = regexp.MustCompile(`^\s*(?:[-*+]|\d+[.)])\s+`)
	apart   = regexp.MustCompile(`^\s*(?:[|#<>]|\[[^\]]+\]:|---|===|$)`) // a line that is no prose
	fence   = regexp.MustCompile("^\\s*(?:```|~~~)")
	unlucky = regexp.MustCompile(`^(?:[-*+#>|=<].*|\d+[.)].*)$`) // would begin something else at the beginning of a line
)

// reflow breaks the paragraphs and list items of a page again.
func reflow(page string) string {
	var out, paragraph []string
	first, hang, code := "", "", false
	flush := func() {
		if len(paragraph) > 0 {
			out = append(out, wrap(paragraph, first, hang)...)
			paragraph = nil
		}
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(page, "\n"), "\n") {
		begins := item.FindString(line)
		switch {
		case fence.MatchString(line):
			flush()
			code = !code
			out = append(out, line)
		case code, apart.MatchString(line), len(paragraph) == 0 && begins == "" && strings.HasPrefix(line, "    "):
			flush()
			out = append(out, line)
		case begins != "":
			flush()
			first, hang = begins, strings.Repeat(" ", utf8.RuneCountInString(begins))
			paragraph = []string{line[len(begins):]}
		default:
			if len(paragraph) == 0 {
				first = line[:len(line)-len(strings.TrimLeft(line, " "))]
				hang = first
			}
			paragraph = append(paragraph, strings.TrimLeft(line, " "))
		}
	}
	flush()
	return strings.Join(out, "\n") + "\n"
}

// wrap fills lines; a paragraph with a hard break stays as it is.
func wrap(lines []string, first, hang string) (out []string) {
	for _, line := range lines[:len(lines)-1] {
		if strings.HasSuffix(line, "  ") || strings.HasSuffix(line, `\`) {
			for i, line := range lines {
				out = append(out, map[bool]string{true: first, false: hang}[i == 0]+line)
			}
			return out
		}
	}
	line := first
	for i, word := range words(strings.Join(lines, " ")) {
		switch {
		case i == 0:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= proseWidth || unlucky.MatchString(word):
			line += " " + word
		default:
			out = append(out, line)
			line = hang + word
		}
	}
	return append(out, line)
}

// words are what a line may be broken between: spans of code are whole.
func words(text string) (all []string) {
	word, span := "", false
	for _, r := range text {
		switch {
		case r == ' ' && !span:
			if word != "" {
				all = append(all, word)
			}
			word = ""
			continue
		case r == '`':
			span = !span
		}
		word += string(r)
	}
	if word != "" {
		all = append(all, word)
	}
	return all
}
