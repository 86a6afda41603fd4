package dspex_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// TestAListIsReadPageByPageAndFromItsBeginningEachTime checks the pages that are requested.
func TestAListIsReadPageByPageAndFromItsBeginningEachTime(t *testing.T) {
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	var asked []string
	if _, err := nc.Subscribe("dspex.rpc.sessions.list", func(m *nats.Msg) {
		var ask struct {
			Limit  int
			Cursor string
		}
		if err := json.Unmarshal(m.Data, &ask); err != nil {
			t.Error(err)
		}
		asked = append(asked, ask.Cursor)
		page := `{"ok":true,"result":{"sessions":[{"session_id":"a"},{"session_id":"b"}],"cursor":"next"}}`
		if ask.Cursor != "" {
			page = `{"ok":true,"result":{"sessions":[{"session_id":"c"}]}}`
		}
		_ = m.Respond([]byte(page))
	}); err != nil {
		t.Fatal(err)
	}
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := c.Admin().Sessions(t.Context(), dspex.SessionFilter{})
	for range 2 {
		var names []string
		for s, err := range all {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, s.ID)
		}
		equal(t, "sessions", strings.Join(names, " "), "a b c")
	}
	for range c.Admin().Sessions(t.Context(), dspex.SessionFilter{Limit: 2}) {
	}
	equal(t, "cursors", strings.Join(asked, ","), ",next,,next,")
}
