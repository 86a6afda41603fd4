package gateway_test

import (
	"fmt"
	"testing"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tokens"
)

// namesIn are the sessions of a page, and its cursor.
func namesIn(a answered) string {
	var names []string
	list, _ := a.body["sessions"].([]any)
	for _, s := range list {
		names = append(names, fmt.Sprint(s.(map[string]any)["session_id"]))
	}
	return fmt.Sprintf("%v %v", names, a.body["cursor"])
}

func TestSessionsAreListedPageByPage(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, row := range []struct {
		path, want string
	}{
		{"/v1/sessions?limit=2", "[a_1 a_2] 2"},
		{"/v1/sessions?limit=2&cursor=4", "[a_5 bob] <nil>"},
		{"/v1/sessions?prefix=bo", "[bob] <nil>"},
		{"/v1/sessions?prefix=zz", "[] <nil>"},
		{"/v1/sessions?host=h9&idle_ms=1000", "[] <nil>"},
	} {
		if a := send(t, "GET", url+row.path, ""); a.StatusCode != 200 || namesIn(a) != row.want {
			t.Errorf("%s: must be %s, got %d %s", row.path, row.want, a.StatusCode, a.text)
		}
	}
	if a := send(t, "GET", url+"/v1/sessions/bob", ""); a.StatusCode != 200 || a.body["session_id"] != "bob" || a.body["programs"] == nil {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	for _, row := range []struct {
		path     string
		status   int
		code, at string
	}{
		{"/v1/sessions/nobody", 404, "session_unknown", ""},
		{"/v1/sessions?limit=0", 400, "bad_request", "query.limit"},
		{"/v1/sessions?limit=501", 400, "bad_request", "query.limit"},
		{"/v1/sessions?cursor=next", 400, "bad_request", "query.cursor"},
		{"/v1/sessions?tenant=a.b", 400, "bad_request", "query.tenant"},
		{"/v1/sessions?idle=5", 400, "bad_request", "query.idle"},
		{"/v1/sessions/a%2Eb", 400, "bad_request", "path.session"},
	} {
		a := send(t, "GET", url+row.path, "")
		if at, _ := a.body["path"].(string); a.StatusCode != row.status || a.body["code"] != row.code || at != row.at {
			t.Errorf("%s: must be %d %s %s, got %d %s", row.path, row.status, row.code, row.at, a.StatusCode, a.text)
		}
	}
}

func TestATokenListsItsOwnSessionsAlone(t *testing.T) {
	path := tokenFile(t)
	call, operate, bobs := bearer(t, path, tokens.Token{}), bearer(t, path, tokens.Token{Role: tokens.Operate}), bearer(t, path, tokens.Token{Role: tokens.Operate, Sessions: "bo"})
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{Tokens: path})
	for _, row := range []struct{ path, token, want string }{
		{"/v1/sessions", operate, "[a_1 a_2] 2"},
		{"/v1/sessions", bobs, "[bob] <nil>"},
		{"/v1/sessions?prefix=b", bobs, "[bob] <nil>"},
		{"/v1/sessions?prefix=bob", bobs, "[bob] <nil>"},
	} {
		if a := send(t, "GET", url+row.path, "", row.token); a.StatusCode != 200 || namesIn(a) != row.want {
			t.Errorf("%s: must be %s, got %d %s", row.path, row.want, a.StatusCode, a.text)
		}
	}
	for _, row := range []struct{ path, token, code string }{
		{"/v1/sessions", call, "role_required"},
		{"/v1/sessions/bob", call, "role_required"},
		{"/v1/sessions?prefix=a_", bobs, "session_denied"},
		{"/v1/sessions/a_1", bobs, "session_denied"},
		{"/v1/sessions?tenant=acme", bobs, "tenant_unknown"},
	} {
		if a := send(t, "GET", url+row.path, "", row.token); a.StatusCode != 403 || a.body["code"] != row.code {
			t.Errorf("%s: must be 403 %s, got %d %s", row.path, row.code, a.StatusCode, a.text)
		}
	}
}
