package link

import (
	"fmt"

	"github.com/dspex/dspex/internal/contract"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// AccountsMapped reports whether the broker's account gives what the service itself publishes to the tenant default: so it is
// where tenants have accounts of their own. No stream takes what is published to find it out.
func AccountsMapped(nc *nats.Conn) (bool, error) {
	probe := contract.SubjectCall + nuid.Next()
	sub, err := nc.SubscribeSync(contract.InTenant(contract.DefaultTenant, probe))
	if err != nil {
		return false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	// A publish that expects another stream is refused by whichever stream it comes to.
	if err := nc.PublishMsg(&nats.Msg{Subject: probe, Header: nats.Header{"Nats-Expected-Stream": {"none"}}}); err != nil {
		return false, err
	}
	if err := nc.Flush(); err != nil {
		return false, err
	}
	pending, _, err := sub.Pending()
	return pending > 0, err
}

// CheckAccounts finds a dispatcher that was started for another broker than it is connected to. It must detect that before it
// touches the streams: there is no way back.
func CheckAccounts(nc *nats.Conn, accounts bool) error {
	mapped, err := AccountsMapped(nc)
	switch {
	case err != nil:
		return fmt.Errorf("look whether tenants have accounts: %w", err)
	case accounts && !mapped:
		return &AccountsError{fmt.Sprintf("with --accounts the broker must map %s* and %s* to the tenant %s, got an account that does not",
			contract.SubjectCall, contract.SubjectSession, contract.DefaultTenant),
			"start the broker with the nats.conf of this release, or the dispatcher without --accounts"}
	case mapped && !accounts:
		return &AccountsError{"the broker has accounts for tenants: the dispatcher must be started with --accounts, got none", "set DSPEX_ACCOUNTS=true"}
	}
	return nil
}

// AccountsError reports that broker and dispatcher do not agree, and what to do.
type AccountsError struct{ text, Hint string }

func (e *AccountsError) Error() string { return e.text }
