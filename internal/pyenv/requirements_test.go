package pyenv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequirementsAreReadWithWhatTheyInclude(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		RequirementsFile: "# a comment\nnumpy>=2 # another\n\nDSPy[deno] ~= 3.4 ; python_version >= '3.11'\n-r more.txt\n-e ./mine\n--extra-index-url https://a.test/simple\n" +
			"pkg==1 \\\n  --hash=sha256:abc\nother @ https://a.test/other.whl\n./wheels/x.whl\n",
		"more.txt": "six\n-c limits.txt\n",
	})
	found, err := readRequirements(filepath.Join(dir, RequirementsFile), 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines, names []string
	for _, r := range found {
		lines, names = append(lines, r.line), append(names, r.name)
	}
	want := []string{"numpy>=2", "DSPy[deno] ~= 3.4 ; python_version >= '3.11'", "six", "-c " + dir + "/limits.txt", "-e " + dir + "/mine", "--extra-index-url https://a.test/simple",
		"pkg==1    --hash=sha256:abc", "other @ https://a.test/other.whl", dir + "/wheels/x.whl"}
	if !slices.Equal(lines, want) {
		t.Errorf("lines\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if want := []string{"numpy", "dspy", "six", "", "", "", "pkg", "other", ""}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	if r := found[1]; r.spec != "~= 3.4" || !slices.Equal(r.extras, []string{"deno"}) {
		t.Errorf("dspy is %+v", r)
	}
}

func TestWhatDspexBringsIsLeftOutAndOtherVersionsOfItAreRefused(t *testing.T) {
	pins := map[string]string{"dspy": "3.4.1", "pydantic": "2.14.3"}
	extra := func(name, extra string) []string {
		if name == "dspy" && extra == "deno" {
			return []string{"deno<3.0.0,>=2.4.5"}
		}
		return nil
	}
	found, err := beside([]requirement{parseRequirement("dspy[deno]>=3", "", "a"), parseRequirement("numpy", "", "b"), parseRequirement("-e /x", "", "c")}, pins, extra)
	if err != nil || textOf(found) != "deno<3.0.0,>=2.4.5\nnumpy\n-e /x\n" {
		t.Errorf("%q %v", textOf(found), err)
	}
	_, err = beside([]requirement{parseRequirement("dspy==2.6", "", "requirements.txt, line 3"), parseRequirement("Pydantic<2", "", "x")}, pins, extra)
	for _, want := range []string{"requirements.txt, line 3: dspy==2.6 is required, dspex runs with dspy 3.4.1", "pydantic<2 is required, dspex runs with pydantic 2.14.3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
}

func TestVersions(t *testing.T) {
	for spec, want := range map[string]bool{
		"": true, ">=3": true, ">=3.4.1": true, ">3.4.1": false, "<4,>=3.0": true, "<3.4": false, "==3.4.1": true, "==3.4": false, "==3.4.*": true, "==3.5.*": false,
		"!=3.4.1": false, "!=3.4.*": false, "~=3.4": true, "~=3.3.0": false, "~=3.4.0": true, "(>=2.6)": true, "===3.4.1": true, ">=3.4.1rc1": true, "<=3.10": true, "@ https://a.test": false,
	} {
		if got := suits("3.4.1", spec); got != want {
			t.Errorf("3.4.1 suits %q: %v, want %v", spec, got, want)
		}
	}
}

func TestRequirementsAreAddedAndRemovedByName(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, RequirementsFile)
	read := func() string { text, _ := os.ReadFile(file); return string(text) }
	undo, err := Edit(dir, []string{"numpy", "six"}, nil)
	if err != nil || read() != "numpy\nsix\n" {
		t.Fatalf("%q %v", read(), err)
	}
	if _, err := Edit(dir, []string{"NumPy>=2"}, []string{"six"}); err != nil || read() != "NumPy>=2\n" {
		t.Errorf("%q %v", read(), err)
	}
	if err := undo(); err != nil || exists(file) {
		t.Errorf("the file is still there: %v", err)
	}
	write(t, dir, map[string]string{RequirementsFile: "# keep me\nsix==1 # and me\n"})
	if _, err := Edit(dir, []string{"numpy"}, nil); err != nil || read() != "# keep me\nsix==1 # and me\nnumpy\n" {
		t.Errorf("%q %v", read(), err)
	}
	if _, err := Edit(dir, nil, []string{"nothing"}); err == nil || !strings.Contains(err.Error(), "nothing is not in requirements.txt") {
		t.Errorf("%v", err)
	}
	if _, err := Edit(dir, []string{"-e ."}, nil); err == nil || !strings.Contains(err.Error(), "must be a package") {
		t.Errorf("%v", err)
	}
	other := t.TempDir()
	write(t, other, map[string]string{ProjectFile: "[project]\n"})
	if _, err := Edit(other, []string{"numpy"}, nil); err == nil || !strings.Contains(err.Error(), ProjectFile) {
		t.Errorf("%v", err)
	}
}

func TestTheDependenciesOfAProjectAreItsRequirements(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{ProjectFile: "[project]\nname = 'x'\nversion = '1'\ndependencies = ['six>=1', \"dspy\"]\n[project.optional-dependencies]\ndev = ['pytest']\n"})
	b, err := newBuilder(Config{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	py, err := b.find(t.Context(), b.recent)
	if err != nil {
		t.Fatal(err)
	}
	found, files, err := b.requirementsOf(t.Context(), py, []string{dir})
	if err != nil || textOf(found) != "six>=1\ndspy\n" || !slices.Equal(files, []string{filepath.Join(dir, ProjectFile)}) {
		t.Errorf("%q of %q, %v", textOf(found), files, err)
	}
	write(t, dir, map[string]string{ProjectFile: "[project]\ndependencies = 5 5\n"})
	if _, _, err := b.requirementsOf(t.Context(), py, []string{dir}); err == nil || !strings.Contains(err.Error(), ProjectFile+" cannot be read") {
		t.Errorf("%v", err)
	}
	write(t, dir, map[string]string{RequirementsFile: "six\n"})
	if found, _, err := b.requirementsOf(t.Context(), py, []string{dir}); err != nil || textOf(found) != "six\n" {
		t.Errorf("%q %v", textOf(found), err)
	}
}

func TestAVariableOfTheSurroundingsIsPassedByName(t *testing.T) {
	surroundings := map[string]string{"MINE": "1", "OTHER": "2", "DSPEX_X": "3", "PATH": "/bin"}
	lookup := func(name string) string { return surroundings[name] }
	if err := (Modules{Env: []string{"MINE"}}).Check(lookup); err != nil {
		t.Error(err)
	}
	for name, says := range map[string]string{"NOT_SET": "it is not set", "DSPEX_X": "dspex sets it", "PATH": "dspex sets it", "MINE=1": "a name is expected", "a b": "no name of a variable"} {
		if err := (Modules{Env: []string{name}}).Check(lookup); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	env, err := System(t.Context(), Config{CacheDir: t.TempDir(), Environ: append(os.Environ(), "MINE=1", "OTHER=2"), Pass: []string{"MINE"}})
	if err != nil {
		t.Fatal(err)
	}
	got := newEnvironment(env.Environ())
	if got["MINE"] != "1" || got["OTHER"] != "" {
		t.Errorf("MINE is %q, OTHER is %q", got["MINE"], got["OTHER"])
	}
}
