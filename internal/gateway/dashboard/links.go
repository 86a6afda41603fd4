package dashboard

import (
	"strconv"

	"github.com/dspex/dspex"
)

// dash stands for what is not there.
func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// number reads the number of a dead letter.
func number(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, &dspex.Error{Code: "dead_letter_unknown", Message: "a dead letter must be a number, as the list shows it"}
	}
	return n, nil
}
