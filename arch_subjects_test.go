package dspex_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/programtest"
)

// written is a subject, or the beginning of one, in a literal. Names of events and of attributes of spans have no
// such second token.
var written = regexp.MustCompile("^[\"`]dspex\\.(?:[*%]|(?:anonymous|audit|call|ctl|dlq|events|hb|log|logs|p|probe|reply|rpc|session|t|telemetry)\\.|anchor\\b)")

// TestSubjectsAreWrittenInPackageContract reads the literals of the product. Tests and benchmarks have subjects of their own, as
// clients write them.
func TestSubjectsAreWrittenInPackageContract(t *testing.T) {
	there := 0
	for path, text := range programtest.Sources(t, ".", ".go") {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			switch {
			case !ok || !written.MatchString(literal.Value):
			case strings.HasPrefix(path, "internal/contract/"):
				there++
			default:
				t.Errorf("%s: a subject must be taken from package contract, got %s", set.Position(literal.Pos()), literal.Value)
			}
			return true
		})
	}
	if there < 60 {
		t.Errorf("found %d subjects in package contract, want at least 60: does the pattern still fit?", there)
	}
}
