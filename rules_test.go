package dspex_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/programtest"
)

// TestTestsSleepInBubblesOnly allows sleeps in packages whose tests use synctest: the bubble may be made in another file.
func TestTestsSleepInBubblesOnly(t *testing.T) {
	texts := programtest.Sources(t, ".", "_test.go")
	bubbles := map[string]bool{}
	for path, text := range texts {
		if strings.Contains(text, `"testing/synctest"`) {
			bubbles[filepath.Dir(path)] = true
		}
	}
	for path, text := range texts {
		if strings.Contains(text, "time.Sl"+"eep(") && !bubbles[filepath.Dir(path)] {
			t.Errorf("%s sleeps in real time: wait for what the process says, or use testing/synctest", path)
		}
	}
}

// skip is a call of a testing.TB by one of its usual names; others have methods called Skip too.
var skip = regexp.MustCompile(`\b(t|tb|b|f)\.Skip(f|Now)?\(`)

func TestNoTestSkips(t *testing.T) {
	for path, text := range programtest.Sources(t, ".", "_test.go") {
		// In a rapid state machine t.Skip means that an action does not apply now.
		if call := skip.FindString(text); call != "" && !strings.Contains(text, `"pgregory.net/rapid"`) {
			t.Errorf("%s calls %s...): what is missing is a failure that says what to install", path, call)
		}
	}
}

// mostClaims is how many claims one assertion may make.
const mostClaims = 3

// TestAnAssertionMakesFewClaims: a failure names what is wrong, so each claim of a test is an assertion of its own.
func TestAnAssertionMakesFewClaims(t *testing.T) {
	found := 0
	for path, text := range programtest.Sources(t, ".", "_test.go") {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if check, ok := n.(*ast.IfStmt); ok && reports(check.Body) {
				found++
				if n := claims(check.Cond); n > mostClaims {
					t.Errorf("%s: an assertion must make at most %d claims, got %d: split it", set.Position(check.Pos()), mostClaims, n)
				}
			}
			return true
		})
	}
	if found < 4000 {
		t.Errorf("found %d assertions, want at least 4000: does their form still fit?", found)
	}
}

// claims are what a condition joins by ||.
func claims(e ast.Expr) int {
	if e, ok := e.(*ast.BinaryExpr); ok && e.Op == token.LOR {
		return claims(e.X) + claims(e.Y)
	}
	return 1
}

// reports tells whether a body begins with the report of a failure.
func reports(body *ast.BlockStmt) bool {
	if len(body.List) == 0 {
		return false
	}
	call, ok := body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	f, ok := call.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := f.Fun.(*ast.SelectorExpr)
	return ok && (strings.HasPrefix(name.Sel.Name, "Error") || strings.HasPrefix(name.Sel.Name, "Fatal"))
}

func TestLocksNameNoRegistry(t *testing.T) {
	for path, text := range programtest.Sources(t, ".", "package-lock.json") {
		if strings.Contains(text, `"resolved"`) || strings.Contains(text, "://") {
			t.Errorf("%s carries download addresses: make it again beside the .npmrc with omit-lockfile-registry-resolved", path)
		}
	}
}

// logged are the messages of log lines that stand in the code.
var logged = regexp.MustCompile(`[lL]og\.(?:Debug|Info|Warn|Error)\("([^"]*)"`)

// TestLogMessagesAreConstantAndSnakeCase: what changes is an attribute, so that a message can be searched for and counted.
func TestLogMessagesAreConstantAndSnakeCase(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)*$`)
	found := 0
	for path, text := range programtest.Sources(t, ".", ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, m := range logged.FindAllStringSubmatch(text, -1) {
			found++
			if !snake.MatchString(m[1]) {
				t.Errorf("%s logs %q: a message must be constant snake_case", path, m[1])
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d log messages, expected at least 50: does the pattern still fit?", found)
	}
}
