package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/programtest"
)

// heading is a line that starts a part of a page.
var heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)

// headings are those of a page.
func headings(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// has reports whether a page has the heading; "Rule 7" stands for "Rule 7: Late writes".
func has(page, cited string) bool {
	return slices.ContainsFunc(headings(page), func(h string) bool { return h == cited || strings.HasPrefix(h, cited+":") })
}

// anchor is what a link to a heading has after its #.
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}

var (
	cited     = regexp.MustCompile(`([\w/-]+\.md)` + "`?" + `, \\?"([^"\\]+)\\?"`)
	citedRule = regexp.MustCompile(`\barchitecture, (rule \d+)`)
	anchored  = regexp.MustCompile(`\]\(([\w./-]*)#([\w-]+)\)`)
	mutantOf  = regexp.MustCompile(`\{name: "([^"]+)", rule: "([^"]+)"`)
)

const (
	rulebook = "docs/architecture.md"
	mutants  = "test/mutants/table_test.go"
)

// TestEveryCitationNamesAHeading reads the citations in code, tests and pages: `PAGE.md, "HEADING"`, `architecture, rule N`,
// links with an anchor, and the rules of the mutants.
func TestEveryCitationNamesAHeading(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".py", ".md", ".txtar")
	checked := 0
	for path, text := range texts {
		if path == "docs/citations_test.go" {
			continue
		}
		for _, m := range cited.FindAllStringSubmatch(text, -1) {
			checked++
			page, found := pageOf(texts, path, m[1])
			if !found {
				t.Errorf("%s cites %s, which is not there", path, m[1])
			} else if !has(page, m[2]) {
				t.Errorf("%s cites %q of %s: no such heading", path, m[2], m[1])
			}
		}
		for _, m := range citedRule.FindAllStringSubmatch(text, -1) {
			checked++
			if rule := "R" + m[1][1:]; !has(texts[rulebook], rule) {
				t.Errorf("%s cites %q of %s: no such heading", path, rule, rulebook)
			}
		}
		for _, m := range anchored.FindAllStringSubmatch(text, -1) {
			checked++
			page := text
			if m[1] != "" {
				page = texts[filepath.Join(filepath.Dir(path), m[1])]
			}
			if !slices.ContainsFunc(headings(page), func(h string) bool { return anchor(h) == m[2] }) {
				t.Errorf("%s links to %s#%s: no such heading", path, m[1], m[2])
			}
		}
	}
	for _, m := range mutantOf.FindAllStringSubmatch(texts[mutants], -1) {
		checked++
		if !has(texts[rulebook], m[2]) {
			t.Errorf("the mutant %q cites %q: no such heading in %s", m[1], m[2], rulebook)
		}
	}
	if checked < 70 {
		t.Errorf("found %d citations, expected at least 70: do the patterns still fit?", checked)
	}
}

// pageOf finds a cited page: by its path, beside the file that cites it, or in one of the two folders of pages.
func pageOf(texts map[string]string, from, page string) (string, bool) {
	for _, path := range []string{page, filepath.Join(filepath.Dir(from), page), "contract/" + page, "docs/" + page} {
		if text, found := texts[path]; found {
			return text, true
		}
	}
	return "", false
}

// TestTheOriginalsManualIsCitedByPage: readers do not have it. docs/migration.md has its content.
func TestTheOriginalsManualIsCitedByPage(t *testing.T) {
	manual := regexp.MustCompile(`(?i)\bthe manual\b`)
	for path, text := range programtest.Sources(t, "..", ".go", ".py", ".md", ".txtar") {
		if path != "docs/migration.md" && path != "docs/citations_test.go" && manual.MatchString(text) {
			t.Errorf("%s speaks of the manual: cite docs/migration.md by heading, or say the original", path)
		}
	}
}

var (
	testName   = regexp.MustCompile("`(Test\\w+)`")
	mutantName = regexp.MustCompile(`"([^"]+)"`)
	testFunc   = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// unruled are the headings of the rulebook without a rule of their own.
var unruled = []string{"Architecture", "Words", "The commit rules"}

// TestEachRuleIsHeldByTestsAndMutants: the rulebook names them under each heading, and they exist.
func TestEachRuleIsHeldByTestsAndMutants(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".md")
	tests, known := map[string]bool{}, map[string]string{}
	for path, text := range texts {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
				tests[m[1]] = true
			}
		}
	}
	for _, m := range mutantOf.FindAllStringSubmatch(texts[mutants], -1) {
		known[m[1]] = m[2]
	}
	listed := map[string]bool{}
	for title, part := range parts(texts[rulebook]) {
		held := testName.FindAllStringSubmatch(part, -1)
		for _, m := range held {
			if !tests[m[1]] {
				t.Errorf("%q names the test %s, which is not there", title, m[1])
			}
		}
		_, names, _ := strings.Cut(part, "\n- Mutants: ")
		for _, m := range mutantName.FindAllStringSubmatch(strings.Join(strings.Fields(names), " "), -1) {
			listed[m[1]] = true
			rule, found := known[m[1]]
			if !found || !strings.HasPrefix(title+":", rule+":") {
				t.Errorf("%q names the mutant %q, which is of %q", title, m[1], rule)
			}
		}
		if !slices.Contains(unruled, title) && (len(held) == 0 || names == "") {
			t.Errorf("%q names no test or no mutant, nor why it has none", title)
		}
	}
	for name := range known {
		if !listed[name] {
			t.Errorf("no rule of %s names the mutant %q", rulebook, name)
		}
	}
}

// TestEachAttackNamesATestThatIsThere: docs/security.md names for each attack the test that tries it.
func TestEachAttackNamesATestThatIsThere(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".md")
	tests := map[string]bool{}
	for path, text := range texts {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = strings.HasSuffix(path, "_test.go")
		}
	}
	for line := range strings.Lines(texts["docs/security.md"]) {
		row := strings.Split(strings.Trim(line, "|\n "), "|")
		if !strings.Contains(line, "`Test") || len(row) < 3 {
			continue
		}
		for _, m := range testName.FindAllStringSubmatch(row[len(row)-1], -1) {
			if !tests[m[1]] {
				t.Errorf("%q names the test %s, which is not there", row[0], m[1])
			}
		}
	}
}

// parts are the parts of a page by their headings.
func parts(text string) map[string]string {
	found := map[string]string{}
	at := heading.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		found[text[m[2]:m[3]]] = text[m[1]:end]
	}
	return found
}

var (
	goMethod   = regexp.MustCompile(`\bc\.((?:\w+\(\)\.)?\w+)\(`)
	goName     = regexp.MustCompile(`\bdspex\.([A-Z]\w*)`)
	flagName   = regexp.MustCompile("`(worker-host|dispatcher|dspex [a-z]+) (--[a-z-]+)")
	optionName = regexp.MustCompile("(?:`|dspex bench | )(--[a-z-]+)")
	subject    = regexp.MustCompile("`(dspex\\.rpc\\.[a-z.]+[a-z])")
	metric     = regexp.MustCompile("`(dspex_[a-z_]+)`")
)

// TestMigrationNamesWhatIsThere: every method and name of the Go client, flag, subject, metric and test of the page.
func TestMigrationNamesWhatIsThere(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".md")
	page := texts["docs/migration.md"]
	exported := exportedNames(t)
	tests := map[string]bool{}
	for path, text := range texts {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = tests[m[1]] || strings.HasSuffix(path, "_test.go")
		}
	}
	each := func(what string, pattern *regexp.Regexp, there func(m []string) bool) {
		t.Helper()
		found := pattern.FindAllStringSubmatch(page, -1)
		if len(found) == 0 {
			t.Errorf("found no %s: does the pattern still fit?", what)
		}
		for _, m := range found {
			if !there(m) {
				t.Errorf("the page names the %s %s, which is not there", what, m[0])
			}
		}
	}
	each("method", goMethod, func(m []string) bool {
		return exported["Client."+m[1][strings.LastIndex(m[1], ".")+1:]] || exported["Admin."+m[1][strings.LastIndex(m[1], ".")+1:]]
	})
	each("name", goName, func(m []string) bool { return exported[m[1]] })
	each("flag", flagName, func(m []string) bool {
		_, part, _ := strings.Cut(texts["docs/config.md"], "# "+m[1]+"\n")
		return strings.Contains(part, "`"+m[2]+"`")
	})
	flags := texts["docs/config.md"] + texts["cmd/dspex/internal/calls/bench.go"] + texts["internal/daemon/daemon.go"]
	each("option", optionName, func(m []string) bool {
		return strings.Contains(flags, "`"+m[1]+"`") || strings.Contains(flags, `"`+strings.TrimPrefix(m[1], "--")+`"`)
	})
	each("test", testName, func(m []string) bool { return tests[m[1]] })
	contract := ""
	for path, text := range texts {
		if strings.HasPrefix(path, "contract/") {
			contract += text
		}
	}
	each("subject", subject, func(m []string) bool { return strings.Contains(contract, m[1]) })
	each("metric", metric, func(m []string) bool { return strings.Contains(texts["docs/metrics.md"], "`"+m[1]+"`") })
}

// exportedNames are those of the Go client: functions, types, values, and methods behind their type.
func exportedNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// receiver is the method's type and a dot, "" of a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

var (
	code       = regexp.MustCompile("`([^`]+)`")
	fenced     = regexp.MustCompile("(?s)```.*?```")
	filePath   = regexp.MustCompile(`^[\w./-]+\.(?:go|py|md|conf|txt|proto|sh)$`)
	dirPath    = regexp.MustCompile(`^(?:internal|cmd|contract|docs|test|python|dispatch|host|lifecycle)/[\w./-]+$`)
	identifier = regexp.MustCompile(`^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w+(?:\(\))?$`)
)

// TestPagesAboutTheCodeNameWhatIsThere: files, folders and names of the rulebook and the tour stand in the code, under that name.
func TestPagesAboutTheCodeNameWhatIsThere(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".py", ".md", ".conf", ".txt")
	words := map[string]bool{}
	paths := map[string]bool{}
	for path, text := range texts {
		for p := path; p != "."; p = filepath.Dir(p) {
			paths[p] = true
		}
		if !strings.HasSuffix(path, ".md") || strings.HasPrefix(path, "contract/") {
			for _, w := range regexp.MustCompile(`\w+`).FindAllString(text, -1) {
				words[w] = true
			}
		}
	}
	there := func(path string) bool {
		path = strings.TrimSuffix(path, "/")
		return slices.ContainsFunc([]string{path, "internal/" + path, "docs/" + path}, func(p string) bool { return paths[p] })
	}
	checked := 0
	for _, page := range []string{rulebook, "docs/tour.md"} {
		for _, m := range code.FindAllStringSubmatch(fenced.ReplaceAllString(texts[page], ""), -1) {
			span := m[1]
			switch {
			case filePath.MatchString(span) && strings.Contains(span, "/"):
				checked++
				if !there(span) {
					t.Errorf("%s names the file %s, which is not there", page, span)
				}
			case filePath.MatchString(span):
				checked++
				if !slices.ContainsFunc(slices.Collect(maps.Keys(paths)), func(p string) bool { return filepath.Base(p) == span }) {
					t.Errorf("%s names the file %s, which is not there", page, span)
				}
			case dirPath.MatchString(span):
				checked++
				if !there(span) {
					t.Errorf("%s names the package %s, which is not there", page, span)
				}
			case identifier.MatchString(span):
				for part := range strings.SplitSeq(strings.TrimSuffix(span, "()"), ".") {
					checked++
					if !words[part] {
						t.Errorf("%s names %s, which is not in the code", page, span)
					}
				}
			}
		}
	}
	if checked < 300 {
		t.Errorf("found %d names, expected at least 300: do the patterns still fit?", checked)
	}
}

var named = regexp.MustCompile("`(\\w+)`\\s+(?:in|of)\\s+`((?:internal|cmd|python)/[\\w./-]+\\.(?:go|py)|[\\w]+\\.go)`")

// TestAFunctionOfAPageIsInTheFileThatThePageNames: "`Settle` in `internal/jobs/settle.go`".
func TestAFunctionOfAPageIsInTheFileThatThePageNames(t *testing.T) {
	texts := programtest.Sources(t, "..", ".go", ".py", ".md")
	found := 0
	for path, page := range texts {
		if !strings.HasPrefix(path, "docs/") || !strings.HasSuffix(path, ".md") {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(page, -1) {
			found++
			declared := regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |var |const |\t|def |class |    def )` + m[1] + `\b`)
			if !declared.MatchString(texts[m[2]]) {
				t.Errorf("%s: %s is not in %s", path, m[1], m[2])
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d functions with their files, expected at least 20: does the pattern still fit?", found)
	}
}
