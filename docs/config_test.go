// Package docs checks that the pages say what is there and what the programs do.
package docs

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write config.md anew")

const head = `# Configuration

Every flag and variable of the three programs. This page is generated from what they say of themselves (` + "`go test ./docs -update`" + `); a test keeps it so.

A flag wins over its variable, a variable over the default. Unknown flags, and values out of range, end the start with what was expected. Durations have a unit: ` + "`500ms`, `30s`, `2m`, `1h`" + `.

Language models are configured in a file: language-models.md.

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
func (p program) write(b *strings.Builder, words ...string) {
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
			if row, ok := flagRow(p.t, line); ok {
				rows = append(rows, row)
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
		p.write(b, append(words, name)...)
	}
}

func flagRow(t *testing.T, line string) (string, bool) {
	t.Helper()
	m := flagLine.FindStringSubmatch(line)
	if m == nil {
		if strings.TrimSpace(line) != "" {
			t.Errorf("a line of help that is no flag: %q", line)
		}
		return "", false
	}
	name, kind, text := m[2], m[3], m[4]
	if name == "help" || name == "version" {
		return "", false
	}
	shown := "`--" + name + "`"
	if m[1] != "" {
		shown = "`" + m[1] + "`, " + shown
	}
	if kind != "" {
		shown += " " + kind
	}
	env, value := "", ""
	if v := standard.FindStringSubmatch(text); v != nil {
		value, text = v[1], strings.TrimSuffix(text, v[0])
	}
	if v := variable.FindStringSubmatch(text); v != nil {
		env, text = "`"+v[1]+"`", strings.Replace(text, v[0], "", 1)
	}
	if v := standard.FindStringSubmatch(text); v != nil && value == "" {
		value, text = v[1], strings.TrimSuffix(text, v[0])
	}
	if host, err := os.Hostname(); err == nil && name == "name" && strings.Trim(value, `"`) == strings.ReplaceAll(host, ".", "-") {
		value = "the machine's name"
	}
	return "| " + shown + " | " + env + " | " + strings.ReplaceAll(value, `"`, "") + " | " + strings.ReplaceAll(text, "|", `\|`) + " |", true
}

func TestConfigTellsEveryFlagAndVariable(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	for _, name := range []string{"dispatcher", "worker-host", "dspex"} {
		p := program{t, filepath.Join(t.TempDir(), name), name}
		if out, err := exec.Command("go", "build", "-o", p.path, "../cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		p.write(&b)
	}
	if *update {
		if err := os.WriteFile("config.md", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile("config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != b.String() {
		t.Error("config.md is not what the programs say of themselves: go test ./docs -update")
	}
}
