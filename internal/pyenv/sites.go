package pyenv

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// withSite takes the packages of one more environment along: behind the product's own and the operator's directories. Workers
// read its .pth files themselves (INIT's `sites`), as Python does. What these lead to outside of the environment has to be known
// here: sandboxed workers read nothing that they were not given.
func (e *Env) withSite(site string) {
	if site == "" {
		return
	}
	e.Sites = append(e.Sites, site)
	if cfg := filepath.Join(site, "../../../pyvenv.cfg"); exists(cfg) {
		e.Read = append(e.Read, cfg) // a Python that modules start reads it first
	}
	e.Read = append(e.Read, pathLines(site)...)
	e.Read = append(e.Read, editable(site)...)
}

// pathLines are the directories that .pth files name.
func pathLines(site string) []string {
	files, _ := filepath.Glob(filepath.Join(site, "*.pth")) // the pattern is well-formed
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "import ") || strings.HasPrefix(line, "import\t") {
				continue
			}
			if !filepath.IsAbs(line) {
				line = filepath.Join(site, line)
			}
			found = append(found, directories(line)...)
		}
	}
	return found
}

// editable are the projects that are installed in place, whose .pth files may be programs: installers note where they are.
func editable(site string) []string {
	files, _ := filepath.Glob(filepath.Join(site, "*.dist-info", "direct_url.json")) // the pattern is well-formed
	var found []string
	for _, file := range files {
		var noted struct {
			URL string `json:"url"`
			Dir struct {
				Editable bool `json:"editable"`
			} `json:"dir_info"`
		}
		text, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(text, &noted) != nil || !noted.Dir.Editable {
			continue
		}
		if at, err := url.Parse(noted.URL); err == nil && at.Scheme == "file" {
			found = append(found, directories(at.Path)...)
		}
	}
	return found
}

// withProduct has a Python of the modules' environment find the product's packages, too, behind its own: modules that start one
// (sys.executable) find there what they find in a worker.
func withProduct(site, product string) error {
	file, text := filepath.Join(site, "dspex.pth"), product+"\n"
	if there, err := os.ReadFile(file); err == nil && string(there) == text {
		return nil
	}
	tmp, err := os.CreateTemp(site, ".dspex-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func directories(path string) []string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil
	}
	return []string{path}
}
