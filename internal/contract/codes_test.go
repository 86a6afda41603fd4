package contract

import (
	"maps"
	"os"
	"regexp"
	"strconv"
	"testing"
)

var codeRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z_]+) \\| (\\d{3}) \\|")

func TestTheCodesAreThoseOfTheContract(t *testing.T) {
	page, err := os.ReadFile("../../contract/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	left := maps.Clone(numbers)
	for _, row := range codeRow.FindAllStringSubmatch(string(page), -1) {
		category, code := row[2], row[1]
		if _, known := categoryNumbers[category]; !known {
			t.Errorf("%s has the unknown category %s", code, category)
		}
		if number, _ := strconv.Atoi(row[3]); Number(category, code) != number {
			t.Errorf("%s (%s) has the number %d, the page says %d", code, category, Number(category, code), number)
		}
		delete(left, code)
	}
	for code := range left {
		t.Errorf("%s is not on the page", code)
	}
}
