package jobs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestWhatCountsOnABreakerIsWhatTheContractSays(t *testing.T) {
	page, err := os.ReadFile("../../contract/breakers.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]Signs{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (lm|pool|start) \\| (failure|success) \\|$").FindAllStringSubmatch(string(page), -1) {
		sign := Works
		if row[3] == "failure" {
			sign = Fails
		}
		told[row[1]] = map[string]Signs{"lm": {LM: sign}, "pool": {Pool: sign}, "start": {Start: sign}}[row[2]]
	}
	for code, s := range signs {
		if told[code] != s {
			t.Errorf("%s: the page says %+v, the table %+v", code, told[code], s)
		}
	}
	for code := range told {
		if _, ok := signs[code]; !ok {
			t.Errorf("%s: not in the table", code)
		}
	}
	for code := range signs { // a code that nobody raises would have no effect
		if all, err := os.ReadFile("../../contract/commands.md"); err != nil || !strings.Contains(string(all), "| `"+code+"` |") {
			t.Errorf("%s is no code (%v)", code, err)
		}
	}
}
