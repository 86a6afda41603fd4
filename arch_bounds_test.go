package dspex_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// decisive are the packages whose inner shape the tests of this file hold: those that decide and carry out what happens to jobs.
var decisive = []string{
	"internal/dispatch", "internal/dispatch/admission", "internal/dispatch/alerts", "internal/dispatch/assign", "internal/dispatch/audit", "internal/dispatch/batches",
	"internal/dispatch/breakers", "internal/dispatch/calls", "internal/dispatch/deadletters", "internal/dispatch/endpoint",
	"internal/dispatch/fleet", "internal/dispatch/health", "internal/dispatch/intake", "internal/dispatch/leader", "internal/dispatch/objects", "internal/dispatch/outcomes", "internal/dispatch/quota",
	"internal/dispatch/sessions", "internal/dispatch/stores", "internal/host", "internal/host/anonymous", "internal/host/attempt",
	"internal/host/breakers", "internal/host/driver", "internal/host/ownership", "internal/host/provision", "internal/host/sessions",
	"internal/host/telemetry", "internal/host/tokens", "internal/host/workers", "internal/lifecycle",
}

// Bounds of every package and type.
const (
	mostFiles       = 20 // of a package
	mostMethods     = 20 // of a type of the decisive packages
	mostFilesOfType = 3
)

// brokerFiles are the files of host and dispatcher that import packages of NATS; the others use package stream alone. Those of the host pass a
// connection on. The list may become shorter, never longer.
var brokerFiles = []string{
	"internal/dispatch/dispatch.go", "internal/host/config.go",
}

// Modules of others.
const (
	natsClient = "github.com/nats-io/nats.go"
	natsServer = "github.com/nats-io/nats-server/v2"
	pflag      = "github.com/spf13/pflag"
	cobra      = "github.com/spf13/cobra"
	yaml       = "go.yaml.in/yaml/v3"
	toml       = "github.com/pelletier/go-toml/v2"
	term       = "golang.org/x/term"
	edits      = "github.com/agnivade/levenshtein"
	bubbletea  = "charm.land/bubbletea/v2"
	huma       = "github.com/danielgtaylor/huma/v2"
	prometheus = "github.com/prometheus/client_golang"
	compress   = "github.com/klauspost/compress"
	gobreaker  = "github.com/sony/gobreaker/v2"
	sys        = "golang.org/x/sys"
	xcrypto    = "golang.org/x/crypto"
	mcpSDK     = "github.com/modelcontextprotocol/go-sdk"
	xtime      = "golang.org/x/time"
	scripts    = "github.com/rogpeppe/go-internal"
	nuid       = "github.com/nats-io/nuid"
	nkeys      = "github.com/nats-io/nkeys"
	orbit      = "github.com/synadia-io/orbit.go/jetstreamext"
	otel       = "go.opentelemetry.io/otel"
	msgpack    = "github.com/vmihailenco/msgpack/v5"
)

// thirdParty are the modules that a package of the product may import.
var thirdParty = map[string][]string{
	"":                              {natsClient},
	"cmd/dispatcher":                {natsClient, pflag},
	"cmd/dspex":                     {cobra},
	"cmd/dspex/internal/calls":      {cobra, nuid},
	"cmd/dspex/internal/cli":        {natsClient, cobra, pflag, term, edits},
	"cmd/dspex/internal/demo":       {natsClient, cobra},
	"cmd/dspex/internal/doctor":     {natsClient, cobra, sys},
	"cmd/dspex/internal/gatewaycmd": {cobra, pflag, mcpSDK, natsClient},
	"cmd/dspex/internal/local":      {cobra, pflag, prometheus},
	"cmd/dspex/internal/ops":        {natsClient, cobra},
	"cmd/dspex/internal/top":        {bubbletea, cobra},
	"cmd/worker-host":               {natsClient, prometheus, cobra, pflag},
	"internal/backup":               {compress, natsServer, natsClient},
	"internal/breaker":              {gobreaker, pflag},
	"internal/clock":                {sys},
	"internal/config":               {pflag, edits, yaml, toml},
	"internal/daemon":               {natsClient, prometheus, cobra, pflag, sys},
	"internal/devserver":            {natsServer, natsClient, prometheus},
	"internal/dispatch":             {natsClient, prometheus},
	"internal/dispatch/alerts":      {pflag},
	"internal/gateway":              {huma, prometheus},
	"internal/gateway/mcptools":     {mcpSDK},
	"internal/host":                 {natsClient, prometheus},
	"internal/host/telemetry":       {prometheus},
	"internal/host/workers":         {prometheus},
	"internal/link":                 {natsClient, nuid},
	"internal/lm":                   {pflag},
	"internal/logfeed":              {natsClient},
	"internal/mock":                 {pflag},
	"internal/natstest":             {natsServer, natsClient, xcrypto},
	"internal/programtest":          {scripts},
	"internal/pyenv":                {pflag, term},
	"internal/pyproc":               {sys},
	"internal/pyproc/proc":          {sys},
	"internal/quorum":               {natsClient},
	"internal/sandbox":              {pflag, sys},
	"internal/service":              {natsClient},
	"internal/stream":               {natsClient, nuid, orbit},
	"internal/tenants":              {natsServer, nkeys, xcrypto},
	"internal/tokens":               {xtime},
	"internal/tracing":              {otel, pflag, prometheus},
	"internal/wire":                 {msgpack},
}

// sources parses the files of a package, without its tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	parsed := map[string]*ast.File{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed[path] = f
	}
	if len(parsed) == 0 {
		t.Fatalf("%s has no files", dir)
	}
	return parsed
}

func TestNoPackageHasMoreFilesThanABoundOrThanItHas(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{len .GoFiles}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		path, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		pkg := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if n > mostFiles {
			t.Errorf("%s has %d files, at most %d are allowed: split it by what owns what", pkg, n, mostFiles)
		}
	}
}

func TestNoTypeOfTheDecisivePackagesHasMoreMethodsOrFilesThanABound(t *testing.T) {
	for _, dir := range decisive {
		methods, files := map[string]int{}, map[string]map[string]bool{}
		for path, f := range sources(t, dir) {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Recv == nil {
					continue
				}
				of := dir + "." + receiver(fn.Recv.List[0].Type)
				if methods[of]++; files[of] == nil {
					files[of] = map[string]bool{}
				}
				files[of][path] = true
			}
		}
		for of, n := range methods {
			if n > mostMethods {
				t.Errorf("%s has %d methods, at most %d are allowed", of, n, mostMethods)
			}
			if len(files[of]) > mostFilesOfType {
				t.Errorf("%s is spread over %d files, at most %d are allowed", of, len(files[of]), mostFilesOfType)
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

func TestOnlyTheFilesOfTheListKnowTheBroker(t *testing.T) {
	var found []string
	for _, dir := range decisive {
		for path, f := range sources(t, dir) {
			if slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return strings.HasPrefix(i.Path.Value, `"github.com/nats-io/`) }) {
				found = append(found, filepath.ToSlash(path))
			}
		}
	}
	for _, path := range found {
		if !slices.Contains(brokerFiles, path) {
			t.Errorf("%s imports a package of NATS: package stream alone knows them", path)
		}
	}
	for _, path := range brokerFiles {
		if !slices.Contains(found, path) {
			t.Errorf("%s imports no package of NATS any more: take it from the list", path)
		}
	}
}

func TestPackagesImportOnlyTheModulesOfTheTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./internal/...", "./cmd/...", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		pkg := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		for imp := range strings.SplitSeq(imports, ",") {
			first, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(first, ".") || imp == module || strings.HasPrefix(imp, module+"/") {
				continue
			}
			if !slices.ContainsFunc(thirdParty[pkg], func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
				t.Errorf("%q imports %s: not in the table", pkg, imp)
			}
		}
	}
}
