package sim

import (
	"bytes"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// point is a step between the delivery of a job and its end, seen from outside: what a process is about to publish, or the
// edges of an attempt in a worker.
type point string

// Points of a host, in the order of a job's way; of a dispatcher; of a client.
const (
	pointCreate            point = "create consumer"
	pointDelete            point = "delete consumer"
	pointReset             point = "reset consumer"
	pointAssign            point = "write assignment"
	pointDeliver           point = "delivery"
	pointLoad              point = "read record"
	pointReadAttemptRecord point = "read attempt record"
	pointLook              point = "read result"
	pointAttemptRecord     point = "write attempt record"
	pointRunStart          point = "attempt starts"
	pointRunEnd            point = "attempt ends"
	pointObject            point = "write object"
	pointPiece             point = "write piece of an upload"
	pointRetry             point = "write retry"
	pointNak               point = "nak"
	pointRecord            point = "write record"
	pointDead              point = "write dead letter"
	pointResult            point = "write result"
	pointReply             point = "reply"
	pointAck               point = "ack"
	pointAnonResult        point = "write anonymous result"
	pointAnonAck           point = "ack anonymous"
	pointProgram           point = "write program"
	pointLease             point = "write lease"
	pointEndpoint          point = "publish at the endpoint"
	pointSubmit            point = "client publishes"
	pointLines             point = "write jobs of a batch"
	pointBatch             point = "write batch"
	pointFeed              point = "publish job of a batch"
	pointResults           point = "read results of a batch"
	pointPart              point = "write outcomes of a batch"
)

// hostPoints are the points where a host can be struck, in the order of the table.
var hostPoints = []point{pointAssign, pointCreate, pointDelete, pointReset, pointDeliver, pointLoad, pointReadAttemptRecord, pointLook, pointAttemptRecord,
	pointRunStart, pointRunEnd, pointObject, pointRetry, pointNak, pointRecord, pointDead, pointResult, pointReply, pointAck, pointAnonResult, pointAnonAck, pointProgram}

var dispatcherPoints = []point{pointLease, pointAssign, pointEndpoint, pointLook, pointPiece, pointObject}

// batchPoints are those of the dispatcher that takes a batch, and of the one that runs it.
var batchPoints = []point{pointLines, pointBatch, pointFeed, pointResults, pointPart}

const getSubject = "$JS.API.STREAM.MSG.GET.KV_"

// classify names the point that a publication stands for; "" is none.
func classify(p publication) point {
	kv := "$KV." + stream.Sessions
	switch s := p.subject; {
	case strings.HasPrefix(s, kv+".s."):
		return pointRecord
	case strings.HasPrefix(s, kv+".h."):
		if hd, err := jobs.ParseAttemptRecord(p.data); err == nil && !hd.NotBefore.IsZero() {
			return pointRetry
		}
		return pointAttemptRecord
	case strings.HasPrefix(s, "$KV."+stream.Results+".r.s."):
		return pointResult
	case strings.HasPrefix(s, "$KV."+stream.Results+".r.a."):
		return pointAnonResult
	case strings.HasPrefix(s, objectWhole):
		return pointObject
	case strings.HasPrefix(s, objectPieces):
		return pointPiece
	case strings.HasPrefix(s, "$KV."+stream.Assign):
		return pointAssign
	case strings.HasPrefix(s, "$KV."+stream.Control+".leader"):
		return pointLease
	case strings.HasPrefix(s, programSubject):
		return pointProgram
	case strings.HasPrefix(s, "dspex.dlq."):
		return pointDead
	case bytes.Contains(p.header, []byte(jobs.HeaderJob+": b")) && isOfBatch(p):
		return pointFeed
	case strings.HasPrefix(s, "$KV."+stream.Batches+".b."):
		return pointBatch
	case strings.HasPrefix(s, "$KV."+stream.Batches+".i."):
		return pointLines
	case strings.HasPrefix(s, "$KV."+stream.Batches+".o."):
		return pointPart
	case s == "$JS.API.DIRECT.GET.KV_"+stream.Results:
		return pointResults
	case strings.HasPrefix(s, "dspex.call."), strings.HasPrefix(s, "dspex.session."), strings.HasPrefix(s, "dspex.t.") && !strings.Contains(s, ".rpc."):
		return pointEndpoint
	case (strings.HasPrefix(s, "_INBOX.") || strings.HasPrefix(s, "dspex.reply.")) && bytes.Contains(p.header, []byte(jobs.HeaderJob)):
		return pointReply
	case strings.HasPrefix(s, "$JS.ACK.") && strings.Contains(s, "."+stream.Jobs+"."):
		return ackPoint(p.data, pointAck, pointNak)
	case strings.HasPrefix(s, "$JS.ACK.") && strings.Contains(s, "."+stream.Anonymous+"."):
		return ackPoint(p.data, pointAnonAck, "")
	case strings.HasPrefix(s, "$JS.API.CONSUMER.CREATE."+stream.Jobs):
		return pointCreate
	case strings.HasPrefix(s, "$JS.API.CONSUMER.DELETE."+stream.Jobs):
		return pointDelete
	case strings.HasPrefix(s, "$JS.API.CONSUMER.RESET."+stream.Jobs):
		return pointReset
	case s == getSubject+stream.Results:
		return pointLook
	case s == getSubject+stream.Sessions && bytes.Contains(p.data, []byte(".s.")):
		return pointLoad
	case s == getSubject+stream.Sessions:
		return pointReadAttemptRecord
	}
	return ""
}

// isOfBatch reports whether it is a job of a batch on its way into a stream.
func isOfBatch(p publication) bool {
	stored := strings.HasPrefix(p.subject, "dspex.session.") || strings.HasPrefix(p.subject, "dspex.anonymous.") || strings.HasPrefix(p.subject, "dspex.t.")
	_, rest, _ := bytes.Cut(p.header, []byte(jobs.HeaderJob+": "))
	id, _, _ := bytes.Cut(rest, []byte("\r\n"))
	_, _, of := batchJob(string(id))
	return stored && of
}

func ackPoint(data []byte, ack, nak point) point {
	switch {
	case bytes.HasPrefix(data, []byte("-NAK")):
		return nak
	case bytes.HasPrefix(data, []byte("+WPI")):
		return ""
	}
	return ack
}

// trigger is a fault that waits for a process to come to a point.
type trigger struct {
	at     point
	after  bool   // the publication has reached the broker
	nth    int    // how many times the point is passed before
	target string // empty: any
	but    string // not this one
	fault  plannedFault
	does   func() // instead of the fault; of a worker's points only
}

// triggers are those that have not struck.
type triggers struct {
	mu    sync.Mutex
	armed []*trigger
}

// next returns the trigger that strikes now, if any.
func (t *triggers) next(at point, who string) *trigger {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, g := range t.armed {
		if g.at != at || g.target != "" && g.target != who || g.but == who {
			continue
		}
		if g.nth--; g.nth < 0 {
			t.armed = append(t.armed[:i:i], t.armed[i+1:]...)
			return g
		}
	}
	return nil
}

func (t *triggers) arm(g *trigger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = append(t.armed, g)
}

func (t *triggers) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = nil
}
