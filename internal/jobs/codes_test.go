package jobs

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
		e := Errorf(Category(row[2]), row[1], "")
		if number, _ := strconv.Atoi(row[3]); e.Number() != number || !e.Category.Known() {
			t.Errorf("%s (%s) has the number %d, the page says %d", e.Code, e.Category, e.Number(), number)
		}
		delete(left, row[1])
	}
	for code := range left {
		t.Errorf("%s is not on the page", code)
	}
}
