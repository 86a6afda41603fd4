package dspex_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows are the imports that each package may have of this module. A new arrow is a decision: change it here.
var arrows = map[string][]string{
	"":                              {"internal/contract", "internal/quorum"},
	"cmd/dispatcher":                {"internal/clock", "internal/config", "internal/daemon", "internal/dispatch", "internal/fair", "internal/jobs", "internal/link", "internal/stream"},
	"cmd/dspex":                     {"cmd/dspex/internal/calls", "cmd/dspex/internal/cli", "cmd/dspex/internal/demo", "cmd/dspex/internal/gatewaycmd", "cmd/dspex/internal/doctor", "cmd/dspex/internal/local", "cmd/dspex/internal/ops", "cmd/dspex/internal/top", "internal/daemon"},
	"cmd/dspex/internal/calls":      {"", "cmd/dspex/internal/cli", "internal/daemon", "internal/insight"},
	"cmd/dspex/internal/cli":        {"", "internal/daemon", "internal/insight", "internal/wire"},
	"cmd/dspex/internal/demo":       {"", "cmd/dspex/internal/cli", "internal/contract", "internal/devserver"},
	"cmd/dspex/internal/doctor":     {"", "cmd/dspex/internal/cli", "internal/config", "internal/contract", "internal/daemon", "internal/link", "internal/lm", "internal/pyenv", "internal/stream"},
	"cmd/dspex/internal/gatewaycmd": {"", "cmd/dspex/internal/cli", "internal/config", "internal/daemon", "internal/gateway", "internal/gateway/mcptools", "internal/link", "internal/logfeed", "internal/tokens", "internal/tracing"},
	"cmd/dspex/internal/local":      {"", "cmd/dspex/internal/cli", "internal/config", "internal/control", "internal/daemon", "internal/devserver", "internal/dispatch", "internal/echolm", "internal/gateway", "internal/logfeed", "internal/pyenv", "internal/tokens", "internal/tracing"},
	"cmd/dspex/internal/top":        {"", "cmd/dspex/internal/cli", "internal/insight"},
	"cmd/dspex/internal/ops":        {"", "cmd/dspex/internal/cli", "internal/backup", "internal/daemon", "internal/insight", "internal/tenants"},
	"cmd/worker-host":               {"internal/breaker", "internal/clock", "internal/config", "internal/control", "internal/daemon", "internal/fair", "internal/host", "internal/host/workers", "internal/jobs", "internal/lm", "internal/mock", "internal/pyenv", "internal/pyproc", "internal/sandbox", "internal/wire"},
	"docs":                          {"internal/config", "internal/dispatch", "internal/host", "internal/natstest", "internal/pyproc"},
	"dspextest":                     {"", "internal/contract", "internal/devserver", "internal/mock", "internal/natstest"},
	"internal/affinity":             {},
	"internal/backup":               {"internal/contract", "internal/jobs", "internal/stream"},
	"internal/batch":                {"internal/contract", "internal/jobs", "internal/wire"},
	"internal/breaker":              {"internal/control", "internal/jobs"},
	"internal/clock":                {},
	"internal/config":               {"internal/fair"},
	"internal/contract":             {},
	"internal/control":              {"internal/contract", "internal/jobs", "internal/wire"},
	"internal/daemon":               {"internal/clock", "internal/config", "internal/control", "internal/link", "internal/logfeed", "internal/quorum", "internal/stream", "internal/tracing"},
	"internal/devserver":            {"internal/breaker", "internal/clock", "internal/control", "internal/dispatch", "internal/echolm", "internal/frame", "internal/host", "internal/host/workers", "internal/jobs", "internal/link", "internal/lm", "internal/logfeed", "internal/mock", "internal/pyenv", "internal/pyproc", "internal/sandbox", "internal/stream", "internal/tracing", "internal/wire"},
	"internal/dispatch":             {"internal/clock", "internal/contract", "internal/control", "internal/dispatch/admission", "internal/dispatch/alerts", "internal/dispatch/assign", "internal/dispatch/audit", "internal/dispatch/batches", "internal/dispatch/breakers", "internal/dispatch/calls", "internal/dispatch/deadletters", "internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/dispatch/health", "internal/dispatch/intake", "internal/dispatch/leader", "internal/dispatch/objects", "internal/dispatch/outcomes", "internal/dispatch/quota", "internal/dispatch/sessions", "internal/dispatch/stores", "internal/fair", "internal/jobs", "internal/link", "internal/service", "internal/stream", "internal/tracing"},
	"internal/dispatch/admission":   {"internal/clock", "internal/control", "internal/dispatch/fleet", "internal/dispatch/outcomes", "internal/fair", "internal/jobs", "internal/stream"},
	"internal/dispatch/alerts":      {"internal/clock", "internal/contract", "internal/dispatch/fleet", "internal/stream"},
	"internal/dispatch/assign":      {"internal/affinity", "internal/control", "internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/dispatch/stores", "internal/jobs", "internal/stream"},
	"internal/dispatch/audit":       {"internal/contract", "internal/dispatch/endpoint", "internal/jobs", "internal/service", "internal/stream", "internal/wire"},
	"internal/dispatch/batches":     {"internal/batch", "internal/contract", "internal/fair", "internal/jobs", "internal/stream", "internal/wire"},
	"internal/dispatch/breakers":    {"internal/breaker", "internal/control", "internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/jobs", "internal/stream"},
	"internal/dispatch/calls":       {"internal/contract", "internal/dispatch/admission", "internal/dispatch/audit", "internal/dispatch/endpoint", "internal/dispatch/intake", "internal/dispatch/outcomes", "internal/dispatch/quota", "internal/dispatch/stores", "internal/jobs", "internal/stream", "internal/tracing", "internal/wire"},
	"internal/dispatch/deadletters": {"internal/dispatch/endpoint", "internal/jobs", "internal/stream", "internal/wire"},
	"internal/dispatch/endpoint":    {"internal/contract", "internal/jobs", "internal/service", "internal/stream", "internal/wire"},
	"internal/dispatch/fleet":       {"internal/clock", "internal/control", "internal/jobs", "internal/stream"},
	"internal/dispatch/health":      {"internal/contract", "internal/control", "internal/dispatch/audit", "internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/dispatch/stores", "internal/jobs", "internal/stream", "internal/wire"},
	"internal/dispatch/intake":      {"internal/jobs", "internal/service"},
	"internal/dispatch/leader":      {"internal/clock", "internal/control", "internal/jobs", "internal/stream"},
	"internal/dispatch/objects":     {"internal/dispatch/endpoint", "internal/jobs", "internal/stream"},
	"internal/dispatch/outcomes":    {"internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/jobs", "internal/stream", "internal/wire"},
	"internal/dispatch/quota":       {"internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/jobs", "internal/stream"},
	"internal/dispatch/sessions":    {"internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/jobs", "internal/stream", "internal/wire"},
	"internal/dispatch/stores":      {"internal/batch", "internal/clock", "internal/contract", "internal/control", "internal/dispatch/alerts", "internal/dispatch/endpoint", "internal/dispatch/fleet", "internal/jobs", "internal/stream"},
	"internal/echolm":               {},
	"internal/echolm/echolmtest":    {"internal/echolm"},
	"internal/fair":                 {"internal/contract"},
	"internal/frame":                {"internal/wire"},
	"internal/gateway":              {"", "internal/contract", "internal/gateway/dashboard", "internal/gateway/mcptools", "internal/gateway/openai", "internal/tokens", "internal/tracing", "internal/wire"},
	"internal/gateway/dashboard":    {"", "internal/contract", "internal/insight"},
	"internal/gateway/mcptools":     {"", "internal/contract"},
	"internal/gateway/openai":       {"", "internal/contract"},
	"internal/host":                 {"internal/breaker", "internal/clock", "internal/control", "internal/fair", "internal/frame", "internal/host/anonymous", "internal/host/attempt", "internal/host/breakers", "internal/host/driver", "internal/host/ownership", "internal/host/provision", "internal/host/sessions", "internal/host/telemetry", "internal/host/tokens", "internal/host/workers", "internal/jobs", "internal/lifecycle", "internal/link", "internal/pyproc", "internal/stream", "internal/tracing"},
	"internal/host/anonymous":       {"internal/clock", "internal/fair", "internal/frame", "internal/host/attempt", "internal/host/driver", "internal/host/provision", "internal/host/workers", "internal/jobs", "internal/lifecycle", "internal/stream"},
	"internal/host/attempt":         {"internal/breaker", "internal/clock", "internal/control", "internal/fair", "internal/frame", "internal/host/breakers", "internal/host/provision", "internal/host/telemetry", "internal/host/tokens", "internal/host/workers", "internal/jobs", "internal/lifecycle", "internal/pyproc", "internal/stream", "internal/wire"},
	"internal/host/breakers":        {"internal/breaker", "internal/clock", "internal/control", "internal/jobs", "internal/stream"},
	"internal/host/driver":          {"internal/clock", "internal/fair", "internal/host/attempt", "internal/host/telemetry", "internal/host/tokens", "internal/jobs", "internal/lifecycle", "internal/stream"},
	"internal/host/ownership":       {"internal/clock", "internal/control", "internal/jobs", "internal/stream"},
	"internal/host/provision":       {"internal/control", "internal/frame", "internal/host/workers", "internal/jobs", "internal/lifecycle", "internal/stream", "internal/wire"},
	"internal/host/sessions":        {"internal/clock", "internal/control", "internal/frame", "internal/host/attempt", "internal/host/driver", "internal/host/ownership", "internal/host/provision", "internal/host/telemetry", "internal/jobs", "internal/lifecycle", "internal/stream"},
	"internal/host/telemetry":       {"internal/breaker", "internal/contract", "internal/control", "internal/frame", "internal/jobs", "internal/lifecycle", "internal/stream", "internal/tracing"},
	"internal/host/tokens":          {"internal/clock", "internal/fair"},
	"internal/host/workers":         {"internal/fair", "internal/frame", "internal/jobs", "internal/pyproc"},
	"internal/insight":              {""},
	"internal/jobs":                 {"internal/contract", "internal/wire"},
	"internal/lifecycle":            {"internal/clock", "internal/jobs"},
	"internal/link":                 {"internal/contract"},
	"internal/logfeed":              {"internal/contract"},
	"internal/lm":                   {"internal/control", "internal/jobs", "internal/wire"},
	"internal/mock":                 {"internal/frame", "internal/host/workers", "internal/jobs", "internal/wire"},
	"internal/natstest":             {"internal/contract"},
	"internal/programtest":          {},
	"internal/pyenv":                {"python"},
	"internal/pyproc":               {"internal/fair", "internal/frame", "internal/pyproc/pace", "internal/pyproc/proc", "internal/wire"},
	"internal/pyproc/pace":          {},
	"internal/pyproc/proc":          {},
	"internal/quorum":               {"internal/clock"},
	"internal/sandbox":              {},
	"internal/service":              {"internal/jobs"},
	"internal/stream":               {"internal/affinity", "internal/clock", "internal/contract", "internal/link"},
	"internal/tenants":              {"internal/contract", "internal/jobs"},
	"internal/tokens":               {},
	"internal/tracing":              {"internal/contract", "internal/wire"},
	"internal/wire":                 {},
	"python":                        {},
	"test/batch":                    {},
	"test/mutants":                  {},
	"test/bench":                    {"internal/affinity", "internal/batch", "", "internal/dispatch/stores", "internal/frame", "internal/insight", "internal/jobs", "internal/pyenv", "internal/pyproc", "internal/stream", "internal/wire", "test/bench/agent", "test/bench/prober", "test/bench/procs", "test/bench/still", "test/bench/web"},
	"test/bench/agent":              nil,
	"test/bench/prober":             {"internal/affinity", "test/bench/agent"},
	"test/bench/procs":              nil,
	"test/bench/still":              {"test/bench/procs"},
	"test/bench/web":                {"internal/contract", "internal/jobs", "test/bench/agent"},
	"test/contract":                 {},
	"test/dashboard":                {},
	"test/e2e":                      {"", "internal/echolm"},
	"test/chaos":                    {},
	"test/modes":                    {},
	"test/model":                    {},
	"test/procs":                    {},
	"test/sandbox":                  {},
	"test/sim":                      {},
	"test/production":               {},
	"test/tenants":                  {},
}

const module = "github.com/dspex/dspex"

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		pkg := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("package %q is not in the table", pkg)
		}
		for imp := range strings.SplitSeq(imports, ",") {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			if to := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/"); !slices.Contains(allowed, to) {
				t.Errorf("%s imports %q: not in the table", pkg, to)
			}
		}
	}
}

// leaves import nothing but the standard library.
var leaves = []string{"internal/contract"}

func TestLeavesImportTheStandardLibraryAlone(t *testing.T) {
	for _, leaf := range leaves {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "./"+leaf).Output()
		if err != nil {
			t.Fatal(err)
		}
		for imp := range strings.FieldsSeq(string(out)) {
			if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s: it is a leaf", leaf, imp)
			}
		}
	}
}
