package dashboard

import (
	"net/url"
	"strconv"

	"github.com/dspex/dspex"
)

// address is a page of the dashboard that reports what was done.
func address(page, done string, keys ...string) string {
	q := url.Values{"done": {done}}
	for i := 0; i+1 < len(keys); i += 2 {
		if keys[i+1] != "" {
			q.Set(keys[i], keys[i+1])
		}
	}
	return Root + page + "?" + q.Encode()
}

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
