package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/contract"
)

// userInfo is the broker's answer about the user of a connection.
type userInfo struct {
	Data *struct {
		User        string `json:"user"`
		Account     string `json:"account"`
		AccountName string `json:"account_name"`
		Permissions *struct {
			Publish subjects `json:"publish"`
		} `json:"permissions"` // nil: all is permitted
	} `json:"data"`
}

// subjects are what a user may publish to.
type subjects struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// permits reports whether a subject without wildcards is permitted.
func (s subjects) permits(subject string) bool {
	return (len(s.Allow) == 0 || coveredBy(s.Allow, subject)) && !coveredBy(s.Deny, subject)
}

func coveredBy(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(strings.Split(p, "."), strings.Split(subject, ".")) })
}

func covers(pattern, subject []string) bool {
	for i, token := range pattern {
		switch {
		case i >= len(subject):
			return false
		case token == ">":
			return true
		case token != "*" && token != subject[i]:
			return false
		}
	}
	return len(pattern) == len(subject)
}

// duties are what users do, with a subject of each request that it needs.
var duties = []struct {
	what  string
	needs []string
}{
	{"run jobs", []string{contract.RPCSession + "a", contract.RPCAnonymous, contract.RPCJobsGet, contract.RPCJobsCancel}},
	{"publish jobs", []string{contract.SubjectSession + "a", contract.SubjectAnonymous + contract.LaneInteractive, contract.SubjectAnonymous + contract.LaneBatch}},
	{"operate", []string{contract.RPCHostsList, contract.RPCHostsDrain, contract.RPCDeadList, contract.RPCBreakersReset, contract.RPCAuditList, contract.SubjectLogs}},
	{"look at streams", []string{"$JS.API.INFO", "$JS.API.STREAM.INFO.A", "$JS.API.CONSUMER.INFO.A.B"}},
	{"change streams", []string{"$JS.API.STREAM.UPDATE.A", "$JS.API.CONSUMER.DELETE.A.B"}},
}

// user shows the permissions of the user that connects.
func (d *doctor) user(ctx context.Context, nc *nats.Conn) {
	ctx, done := d.bounded(ctx, lookFor)
	defer done()
	var info userInfo
	m, err := nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	if err == nil {
		err = json.Unmarshal(m.Data, &info)
	}
	if err == nil && info.Data == nil {
		err = errors.New("the broker's answer has none")
	}
	if err != nil {
		d.add("user", Note, "the user needs $SYS.REQ.USER.INFO, as nats.conf has it; what is denied below is listed as such", "those of this user are not known: %v", reason(ctx, err))
		return
	}
	d.may(info)
}

// may lists what the user may do, and what not.
func (d *doctor) may(info userInfo) {
	const check = "user"
	who, account := cli.FirstOf(info.Data.User, "this user"), cli.FirstOf(info.Data.AccountName, info.Data.Account)
	if info.Data.Permissions == nil {
		d.fine(check, "%s may do everything in the account %s", who, account)
		return
	}
	var can, not []string
	for _, duty := range duties {
		if slices.ContainsFunc(duty.needs, func(subject string) bool { return !info.Data.Permissions.Publish.permits(subject) }) {
			not = append(not, duty.what)
		} else {
			can = append(can, duty.what)
		}
	}
	switch {
	case len(can) == 0:
		d.add(check, Warning, "use the user of a client or an operator: docs/operations.md, Permissions", "%s of the account %s may neither run jobs nor operate", who, account)
	case len(not) == 0:
		d.fine(check, "%s of the account %s may %s", who, account, strings.Join(can, ", "))
	default:
		d.add(check, Note, "docs/operations.md, Permissions, has the users for the rest", "%s of the account %s may %s; not: %s", who, account, strings.Join(can, ", "), strings.Join(not, ", "))
	}
}
