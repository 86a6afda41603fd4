package ops

import (
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func TestADegradedPoolSaysWhy(t *testing.T) {
	rows := healthRows(dspex.Health{Status: dspex.HealthDegraded, Accounts: true, Reasons: []string{"one", "t\x1bwo"}})
	if rows[0] != (cli.Row{"status", "degraded"}) || rows[1] != (cli.Row{"reason", "one"}) || rows[2][0] != "reason" || strings.ContainsRune(rows[2][1], 0x1b) || rows[3][0] != "pool_size" {
		t.Errorf("%v", rows)
	}
}

func TestAPoolWhoseClientsShareAnAccountSaysSo(t *testing.T) {
	if rows := healthRows(dspex.Health{Status: dspex.HealthHealthy}); rows[1][0] != "note" {
		t.Errorf("%v", rows)
	}
}
