// Package docs checks that the pages describe what is there and what the programs do.
package docs

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/config"
)

var update = flag.Bool("update", false, "rewrite config.md")

const head = `# Configuration

The file of settings, and every flag and variable of the three programs. This page is generated from their help texts (` + "`go test ./docs -update`" + `); a test keeps it so.

Unknown flags and keys, and values out of range, end the start with what was expected. Durations have a unit: ` + "`500ms`, `30s`, `2m`, `1h`" + `.

## The file

dispatcher, worker-host, ` + "`dspex gateway`" + ` and ` + "`dspex dev`" + ` read one file of settings: ` + "`dspex.yaml`, `dspex.yml` or `dspex.toml`" + ` in the working directory, or the one that ` + "`--config` or `$DSPEX_CONFIG`" + ` names. JSON is read as YAML. A flag wins over its variable, a variable over the
file, the file over the preset that ` + "`pool_mode`" + ` names, a preset over the default. Each program reads its own keys and skips those of the others; an unknown key is refused. The keys of ` + "`dspex gateway`" + ` stand in the section ` + "`gateway`" + `; it also reads ` + "`server`" + ` and the credentials, ` + "`traces_endpoint`, `traces_ratio` and `trace_url`" + `.

- ` + "`dspex init`" + ` writes ` + "`dspex.yaml`" + ` with all keys in comments; ` + "`dspex config check`" + ` reports all errors of its keys and values at once, with lines and columns; ` + "`dspex config show --origin`" + ` shows which setting applies and why; ` + "`dspex config schema`" + ` prints a JSON schema for editors.
- A key is the name of a flag with ` + "`_` for `-`" + `. Numbers are milliseconds where a duration is expected; a list may be a list. ` + "`lm` and `job_defaults`" + ` may hold their content as a map instead of a path; ` + "`tenant_weights`" + ` may be a map of tenants to numbers. Paths are relative to the working directory.
- Names of the Elixir pool: ` + "`pool_size`" + ` (workers), ` + "`circuit_breaker` with `failure_threshold`, `success_threshold`, `timeout`" + `, ` + "`error_handler` with `error_rate_threshold`, `alert_destinations`" + `. ` + "`python_bridge` with `python_executable`, `default_timeout`" + ` counts, with a warning.
- ` + "`pool_mode`" + `: ` + "`development`" + ` is 2 workers and 2 more on demand; ` + "`test`" + ` is 2, none more, ` + "`worker_module` `basic`" + `; ` + "`production`" + ` is 2 workers for each processor, 1 more for each on demand, and breakers that stay open for 30 s.

## Variables

Language models may be configured in a file of their own: language-models.md.

| variable | of | meaning |
|---|---|---|
| ` + "`NATS_PASSWORD`" + ` | dispatcher, worker-host | password of ` + "`--user`" + `; there is no flag, so that no process list shows it |
| ` + "`NATS_URL`, `NATS_CONTEXT`" + ` | dspex | server, or a context of the nats command line with URL and credentials |
| ` + "`NO_COLOR`, `TERM=dumb`" + ` | dspex | plain output; what is not a terminal gets it anyway |
| ` + "`DSPEX_FAST_PATHS`" + ` | worker-host, dspex dev | shorter ways through DSPy that workers take: all, none, or some of kept, texts, transport (workers.md) |
| ` + "`XDG_CACHE_HOME`" + ` | worker-host, dspex dev | where the Python environment is made, in the directory dspex |
| ` + "`PIP_INDEX_URL`, `UV_DEFAULT_INDEX`, `PIP_CERT`, `HTTPS_PROXY`" + ` | worker-host, dspex dev | how its packages are fetched, once |
| ` + "`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`, `OPENROUTER_API_KEY`" + ` | worker-host, dspex dev | keys of language models, where no profile names another reference |
`

var (
	flagLine = regexp.MustCompile(`^ +(?:(-\w), )?(?:    )?--([a-z-]+)(?: ([a-z]+))?   +(.*)$`)
	variable = regexp.MustCompile(` \[\$(\w+)\]`)
	standard = regexp.MustCompile(` \(default:? (.*)\)$`)
	command  = regexp.MustCompile(`^  ([a-z-]+) {2,}\S`)
)

// groups are the headings that commands stand below.
var groups = []string{"Available Commands:", "Jobs and sessions:", "Operation:", "Without a deployment:"}

// program is one of the binaries, built.
type program struct {
	t    *testing.T
	path string
	name string
}

func (p program) help(words ...string) []string {
	p.t.Helper()
	cmd := exec.Command(p.path, append(words, "--help")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %v: %v\n%s", p.name, words, err, out)
	}
	return strings.Split(string(out), "\n")
}

// write describes a command and those below it.
func (p program) write(b *strings.Builder, keys *[]config.Key, words ...string) {
	lines := p.help(words...)
	about := strings.Join(lines[:max(slices.Index(lines, ""), 1)], " ")
	title := strings.Join(append([]string{p.name}, words...), " ")
	b.WriteString("\n#" + strings.Repeat("#", min(len(words)+1, 3)) + " " + title + "\n\n" + strings.TrimSuffix(about, ".") + ".\n")
	part, rows := "", []string{}
	var below []string
	for _, line := range lines {
		switch {
		case line != "" && line[0] != ' ':
			part = line
		case part == "Flags:":
			if f, ok := readFlag(p.t, line); ok {
				rows = append(rows, f.row())
				if slices.Contains(config.Programs, title) && f.name != config.FileFlag {
					*keys = append(*keys, config.Key{Program: title, Name: config.KeyName(title, f.name), Kind: f.kind, Default: f.value, Help: f.text})
				}
			}
		case slices.Contains(groups, part):
			if m := command.FindStringSubmatch(line); m != nil && m[1] != "help" && m[1] != "completion" {
				below = append(below, m[1])
			}
		}
	}
	if len(rows) > 0 {
		b.WriteString("\n| flag | variable | default | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n")
	}
	for _, name := range below {
		p.write(b, keys, append(words, name)...)
	}
}

// flagText is the help of a flag.
type flagText struct{ short, name, kind, variable, value, text string }

func (f flagText) row() string {
	shown := "`--" + f.name + "`"
	if f.short != "" {
		shown = "`" + f.short + "`, " + shown
	}
	if f.kind != "" {
		shown += " " + f.kind
	}
	if f.variable != "" {
		f.variable = "`" + f.variable + "`"
	}
	return "| " + shown + " | " + f.variable + " | " + f.value + " | " + strings.ReplaceAll(f.text, "|", `\|`) + " |"
}

func readFlag(t *testing.T, line string) (flagText, bool) {
	t.Helper()
	m := flagLine.FindStringSubmatch(line)
	if m == nil {
		if strings.TrimSpace(line) != "" {
			t.Errorf("a line of help that is no flag: %q", line)
		}
		return flagText{}, false
	}
	f := flagText{short: m[1], name: m[2], kind: m[3], text: m[4]}
	if f.name == "help" || f.name == "version" {
		return flagText{}, false
	}
	if v := standard.FindStringSubmatch(f.text); v != nil {
		f.value, f.text = v[1], strings.TrimSuffix(f.text, v[0])
	}
	if v := variable.FindStringSubmatch(f.text); v != nil {
		f.variable, f.text = v[1], strings.Replace(f.text, v[0], "", 1)
	}
	if v := standard.FindStringSubmatch(f.text); v != nil && f.value == "" {
		f.value, f.text = v[1], strings.TrimSuffix(f.text, v[0])
	}
	if host, err := os.Hostname(); err == nil && f.name == "name" && strings.Trim(f.value, `"`) == strings.ReplaceAll(host, ".", "-") {
		f.value = "the machine's name"
	}
	f.value = strings.ReplaceAll(f.value, `"`, "")
	return f, true
}

// refuses gives the program each value that a file of settings must not have, as a flag.
func (p program) refuses() {
	refused := config.Refused()
	for _, k := range config.Keys {
		value, is := refused[k.Flag()]
		flag := k.Flag()[strings.LastIndexByte(k.Flag(), '.')+1:]
		if words := strings.Fields(k.Program); is && words[0] == p.name {
			ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
			cmd := exec.CommandContext(ctx, p.path, append(words[1:], "--"+flag+"="+value)...) //nolint:gosec // built by this test
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.t.TempDir()}
			out, err := cmd.CombinedOutput()
			cancel()
			if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), flag) && k.Flag() != config.PoolMode {
				p.t.Errorf("%s --%s=%s is no fault there as it is in a file: %v\n%s", k.Program, k.Flag(), value, err, out)
			}
		}
	}
}

func TestConfigTellsEveryFlagAndVariable(t *testing.T) {
	var b strings.Builder
	var keys []config.Key
	b.WriteString(head)
	for _, name := range []string{"dispatcher", "worker-host", "dspex"} {
		p := program{t, filepath.Join(t.TempDir(), name), name}
		if out, err := exec.Command("go", "build", "-o", p.path, "../cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		p.write(&b, &keys)
		p.refuses()
	}
	text, err := json.MarshalIndent(keys, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const keysFile = "../internal/config/keys.json"
	if *update {
		if err := errors.Join(os.WriteFile("config.md", []byte(b.String()), 0o600), os.WriteFile(keysFile, append(text, '\n'), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := os.ReadFile(keysFile); err != nil || string(written) != string(text)+"\n" {
		t.Errorf("%s is not what the programs say of themselves: go test ./docs -update (%v)", keysFile, err)
	}
	page, err := os.ReadFile("config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != b.String() {
		t.Error("config.md is not what the programs say of themselves: go test ./docs -update")
	}
}
