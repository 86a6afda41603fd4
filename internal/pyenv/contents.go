package pyenv

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// contents is the file that lists what an environment held when it was made: for each folder of its packages the number of
// entries. It is compared at every start, in a few milliseconds, so that a package that somebody removed is found before a
// worker fails to import it. Hashes of all files would take seconds.
const contents = ".contents"

// inventory counts the entries of each folder below site. What Python compiles at run time does not count.
func inventory(site string) (map[string]int, error) {
	counts := map[string]int{}
	err := filepath.WalkDir(site, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "__pycache__" {
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(site, path)
		if err != nil {
			return err
		}
		if rel != "." {
			counts[filepath.Dir(rel)]++
		}
		if d.IsDir() {
			counts[rel] += 0
		}
		return nil
	})
	return counts, err
}

func writeContents(dir, site string) error {
	counts, err := inventory(site)
	if err != nil {
		return err
	}
	var text strings.Builder
	for folder, n := range counts {
		fmt.Fprintf(&text, "%d %s\n", n, folder)
	}
	return os.WriteFile(filepath.Join(dir, contents), []byte(text.String()), 0o644)
}

// missing names a folder below site that holds less than when the environment was made; "" if none does. An environment
// without a list counts as whole.
func missing(dir, site string) string {
	list, err := os.Open(filepath.Join(dir, contents))
	if err != nil {
		return ""
	}
	defer list.Close()
	now, err := inventory(site)
	if err != nil {
		return site
	}
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		number, folder, _ := strings.Cut(lines.Text(), " ")
		want, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		if have, ok := now[folder]; !ok || have < want {
			return filepath.Join(site, folder)
		}
	}
	return ""
}
