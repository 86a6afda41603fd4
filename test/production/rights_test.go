package production

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestEachUserHasItsOwnRightsOnly tries what each must not do. The server answers a denied publish or subscription with an error
// of its own, in the order of what was tried.
func TestEachUserHasItsOwnRightsOnly(t *testing.T) {
	fresh(t)
	for user, tries := range map[string]struct{ publish, subscribe, allowed, receives []string }{
		"client": {
			publish: []string{
				"dspex.p.1.user_123", "dspex.rpc.admin.x", "dspex.rpc.dlq.show", "dspex.rpc.consumers.remove", "dspex.rpc.partitions.set", "dspex.ctl.h1.ping", "dspex.hb.h3", "dspex.dlq.s.x", "dspex.reply.x", "dspex.anonymous.fast", "dspex.anchor", "dspex.probe.DSPEX_ANON", "dspex.rpc.audit.list", "dspex.rpc.jobs.list", "dspex.audit.operator.x", "dspex.logs.get", "dspex.log.worker-host.info",
				"_INBOX.dispatcher.x", "_INBOX.host.x", "$KV.dspex_sessions.s.x", "$KV.dspex_results.r.s.x.j", "$KV.dspex_assign.p.1", "$KV.dspex_control.leader", "$KV.dspex_batches.b.default.x", "$O.dspex_objects.C.default.a.x", "$JS.API.STREAM.MSG.GET.OBJ_dspex_objects",
				"$JS.API.INFO", "$JS.API.STREAM.PURGE.DSPEX_JOBS", "$JS.API.STREAM.MSG.GET.KV_dspex_results", "$JS.API.CONSUMER.CREATE.DSPEX_JOBS", "$JS.ACK.DSPEX_JOBS.x", "$SRV.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ",
			},
			subscribe: []string{"_INBOX.>", "_INBOX.other.>", "dspex.>", "dspex.telemetry.>", "dspex.events.>", "dspex.log.>", "dspex.log.worker-host.info", "dspex.logs.get", "dspex.audit.>", "dspex.rpc.session.*", "dspex.session.*", "$KV.dspex_results.>", ">"},
			allowed:   []string{"dspex.rpc.session.x", "dspex.rpc.anonymous", "dspex.rpc.jobs.get", "dspex.rpc.objects.get", "dspex.rpc.batches.submit", "dspex.session.x", "dspex.anonymous.interactive", "dspex.anonymous.batch", "$SYS.REQ.USER.INFO"},
		},
		"host": {
			publish: []string{
				"dspex.audit.operator.x", "$JS.API.STREAM.PURGE.DSPEX_AUDIT", "$JS.API.STREAM.MSG.GET.DSPEX_AUDIT", "dspex.t.default.session.x", "dspex.anonymous.interactive", "dspex.rpc.session.x", "dspex.ctl.h2.drain", "$KV.dspex_control.leader", "$KV.dspex_batches.b.default.x",
				"$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.DSPEX_JOBS", "$JS.API.STREAM.DELETE.DSPEX_JOBS", "$JS.API.STREAM.PURGE.KV_dspex_sessions",
				"$JS.API.STREAM.MSG.DELETE.DSPEX_JOBS", "$JS.API.CONSUMER.CREATE.DSPEX_DLQ.x", "$JS.API.CONSUMER.CREATE.KV_dspex_sessions.x", "$SRV.PING", "$SYS.REQ.USER.INFO", "dspex.logs.get",
			},
			subscribe: []string{"_INBOX.>", "_INBOX.client.>", "dspex.log.>", "dspex.rpc.>", "dspex.session.*", "$KV.>", ">"},
			allowed:   []string{"dspex.hb.h3", "dspex.telemetry.session_pool.execute", "dspex.log.worker-host.info", "dspex.ctl.drop", "dspex.ctl.h3.ping", "_INBOX.client.x", "dspex.reply.x", "$JS.API.STREAM.INFO.DSPEX_JOBS", "$JS.API.STREAM.MSG.GET.DSPEX_DLQ", "$JS.API.CONSUMER.CREATE.DSPEX_JOBS.p1-e2", "$O.dspex_objects.C.default.a.x"},
		},
		"operator": {
			publish: []string{
				"dspex.audit.operator.x", "$JS.API.STREAM.PURGE.DSPEX_AUDIT", "$JS.API.STREAM.DELETE.DSPEX_AUDIT", "$JS.API.STREAM.MSG.DELETE.DSPEX_AUDIT",
				"$KV.dspex_sessions.s.x", "$KV.dspex_control.leader", "$JS.API.STREAM.DELETE.DSPEX_JOBS", "$JS.API.STREAM.PURGE.DSPEX_JOBS",
				"$JS.API.CONSUMER.DELETE.DSPEX_JOBS.x", "$JS.API.STREAM.MSG.DELETE.DSPEX_JOBS", "dspex.ctl.h1.ping", "dspex.p.1.x", "_INBOX.client.x", "_INBOX.operator.x", "dspex.log.worker-host.info",
			},
			subscribe: []string{"_INBOX.>", "dspex.>", "$KV.>", ">"},
			allowed:   []string{"dspex.rpc.jobs.get", "dspex.rpc.jobs.list", "dspex.rpc.dlq.purge", "dspex.rpc.audit.list", "dspex.logs.get", "dspex.log.gateway.info", "$SRV.PING", "$JS.API.STREAM.LIST", "$JS.API.CONSUMER.INFO.DSPEX_JOBS.x", "$SYS.REQ.USER.INFO"},
		},
		"backup": {
			publish: []string{
				"dspex.rpc.stats.get", "dspex.t.default.session.x", "dspex.hb.h3", "$KV.dspex_sessions.s.x", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.DSPEX_JOBS", "$JS.API.STREAM.DELETE.DSPEX_JOBS",
				"$JS.API.STREAM.PURGE.DSPEX_JOBS", "$JS.API.STREAM.MSG.DELETE.DSPEX_JOBS", "$JS.API.CONSUMER.CREATE.DSPEX_JOBS.x", "_INBOX.client.x",
			},
			subscribe: []string{"_INBOX.>", "_INBOX.client.>", "dspex.>", "dspex.rpc.>", "$KV.>", ">"},
			allowed:   []string{"$JS.API.STREAM.INFO.DSPEX_JOBS", "$JS.API.DIRECT.GET.DSPEX_JOBS"},
		},
		"dispatcher": {
			publish: []string{"$KV.dspex_sessions.s.x", "$KV.dspex_results.r.s.x.j", "$JS.API.STREAM.DELETE.DSPEX_AUDIT", "$JS.API.STREAM.UPDATE.DSPEX_AUDIT",
				"$JS.API.STREAM.PURGE.DSPEX_AUDIT", "$JS.API.STREAM.MSG.DELETE.DSPEX_AUDIT"},
			subscribe: []string{"_INBOX.>", "_INBOX.client.>", "_INBOX.host.>", "dspex.session.*", "dspex.reply.>", "dspex.reply.acme.x", "$KV.>", ">"},
			receives:  []string{"dspex.reply.acme.batch.x.*", "_INBOX.dispatcher.x.*"},
			allowed:   []string{"dspex.ctl.h3.ping", "_INBOX.client.x", "$JS.API.STREAM.INFO.DSPEX_AUDIT", "$KV.dspex_batches.b.default.x", "$KV.dspex_results.r.a.acme.x", "$SYS.REQ.USER.INFO"},
		},
	} {
		t.Run(user, func(t *testing.T) {
			nc, errs := connect(t, user)
			denied := func(what, subject string, err error) {
				t.Helper()
				if err == nil {
					err = nc.Flush()
				}
				if err != nil {
					t.Fatal(err)
				}
				var denial error
				select {
				case denial = <-errs:
				case <-time.After(10 * time.Second): // an answer takes a millisecond
				}
				if err := denial; !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
					t.Errorf("%s %s: the next denial is %v", what, subject, err)
				}
			}
			for _, subject := range tries.allowed { // if one of them is denied, that is the next denial
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
			}
			for _, subject := range tries.receives {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
			}
			for _, subject := range tries.publish {
				denied("publish to", subject, nc.Publish(subject, nil))
			}
			for _, subject := range tries.subscribe {
				_, err := nc.SubscribeSync(subject)
				denied("subscribe to", subject, err)
			}
		})
	}
}

func connect(t *testing.T, user string) (*nats.Conn, <-chan error) {
	t.Helper()
	errs := make(chan error, 16)
	nc, err := nats.Connect(broker.ClientURL(), nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, errs
}

func TestNobodyGetsInWithoutHisOwnPassword(t *testing.T) {
	for _, options := range [][]nats.Option{
		nil,
		{nats.UserInfo("host", password("client"))},
		{nats.UserInfo("client", "")},
		{nats.UserInfo("sys", "sys")},
		{nats.UserInfo("operator", "")},
	} {
		nc, err := nats.Connect(broker.ClientURL(), append(options, nats.Timeout(5*time.Second))...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("connected with %v", err)
		}
	}
}
