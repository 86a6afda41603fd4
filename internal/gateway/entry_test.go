package gateway_test

import (
	"net/http"
	"testing"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tokens"
)

// TestTheAddressLeadsBrowsersToTheDashboardAndOthersToThePaths: also where every other path needs a token.
func TestTheAddressLeadsBrowsersToTheDashboardAndOthersToThePaths(t *testing.T) {
	file := tokenFile(t)
	token := bearer(t, file, tokens.Token{})
	follow := http.DefaultClient.CheckRedirect
	http.DefaultClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { http.DefaultClient.CheckRedirect = follow }()
	for name, cfg := range map[string]gateway.Config{"without tokens": {}, "with tokens": {Tokens: file}} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, dspextest.NewFake(t).Client(), cfg)
			browser := send(t, "GET", url+"/", "", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
			if browser.StatusCode != http.StatusFound || browser.Header.Get("Location") != gateway.DashboardPath {
				t.Errorf("a browser got %d and %q", browser.StatusCode, browser.Header.Get("Location"))
			}
			other := send(t, "GET", url+"/", "", "Accept: */*", token)
			paths, _ := other.body["paths"].(map[string]any)
			if other.StatusCode != http.StatusOK || other.body["service"] != "dspex" {
				t.Errorf("got %d %s", other.StatusCode, other.text)
			}
			if paths["dashboard"] != "/dashboard" || paths["openapi"] != "/openapi.json" {
				t.Errorf("got %s", other.text)
			}
			if wrong := send(t, "POST", url+"/", "{}", token); wrong.StatusCode == http.StatusOK {
				t.Errorf("POST: %d", wrong.StatusCode)
			}
			if none := send(t, "GET", url+"/nothing", "", token); none.StatusCode == http.StatusOK {
				t.Errorf("another path: %d", none.StatusCode)
			}
		})
	}
}
