package ops

import (
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func TestADegradedPoolSaysWhy(t *testing.T) {
	rows := healthRows(dspex.Health{Status: dspex.HealthDegraded, Accounts: true, Reasons: []string{"one", "t\x1bwo"}})
	switch {
	case rows[0] != (cli.Row{"status", "degraded"}):
		t.Errorf(`rows[0] must be (cli.Row{"status", "degraded"}), got %v; %v`, rows[0], rows)
	case rows[1] != (cli.Row{"reason", "one"}):
		t.Errorf(`rows[1] must be (cli.Row{"reason", "one"}), got %v; %v`, rows[1], rows)
	case rows[2][0] != "reason":
		t.Errorf(`rows[2][0] must be "reason", got %v; %v`, rows[2][0], rows)
	case strings.ContainsRune(rows[2][1], 0x1b):
		t.Errorf("must not hold: strings.ContainsRune(rows[2][1], 0x1b); %v", rows)
	case rows[3][0] != "pool_size":
		t.Errorf(`rows[3][0] must be "pool_size", got %v; %v`, rows[3][0], rows)
	}
}

func TestAPoolWhoseClientsShareAnAccountSaysSo(t *testing.T) {
	if rows := healthRows(dspex.Health{Status: dspex.HealthHealthy}); rows[1][0] != "note" {
		t.Errorf("%v", rows)
	}
}
