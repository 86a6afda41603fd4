package natstest

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/contract"
)

// NewFake serves the endpoints until the connection is closed. Tests use StartFake.
func NewFake(ctx context.Context, nc *nats.Conn) (*Fake, error) {
	f := &Fake{nc: nc, outcomes: map[string][]byte{}, ended: map[string]chan struct{}{}, seen: map[string]bool{}, released: make(chan struct{}), known: fakeSessions()}
	for stream, subject := range map[string]string{"DSPEX_JOBS": contract.SubjectSession + "*", "DSPEX_ANON": contract.SubjectAnonymous + "*"} {
		if err := f.consume(ctx, stream, subject); err != nil {
			return nil, err
		}
	}
	service, err := micro.AddService(nc, micro.Config{Name: "dspex", Version: "0.0.0"})
	if err != nil {
		return nil, err
	}
	for subject, serve := range map[string]func(micro.Request){
		contract.RPCSession + "*": f.call, contract.RPCAnonymous: f.call, contract.RPCAdminSession + "*": f.call, contract.RPCAdminAnonymous: f.call, contract.RPCJobsGet: f.getJob, contract.RPCJobsCancel: f.getJob, contract.RPCJobsList: f.listJobs, contract.RPCJobsSubmit: f.submitJobs,
		contract.RPCHealth: f.health, contract.RPCStats: f.stats, family(contract.RPCSessionsList): f.sessions, family(contract.RPCHostsList): f.hosts,
		family(contract.RPCBreakersList): f.breakers, family(contract.RPCDeadList): f.deadLetters,
		family(contract.RPCConsumersList): f.consumers, family(contract.RPCPartitionsGet): f.partitions,
		contract.RPCAuditList: f.audit, family(contract.RPCBatchesGet): f.batches,
	} {
		name := strings.NewReplacer(".", "-", "*", "id").Replace(subject)
		handler := micro.HandlerFunc(func(r micro.Request) { go serve(r) }) // each may wait
		if err := service.AddEndpoint(name, handler, micro.WithEndpointSubject(subject)); err != nil {
			return nil, err
		}
	}
	return f, nc.Flush()
}

// StartFake serves the endpoints on a broker until the test ends.
func StartFake(t testing.TB, s *server.Server) *Fake {
	t.Helper()
	f, err := NewFake(t.Context(), Connect(t, s))
	check(t, err)
	t.Cleanup(f.Release)
	return f
}
