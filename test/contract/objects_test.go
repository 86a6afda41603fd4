package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// reference is what stands in the place of a large payload.
type reference struct {
	Object string `json:"object" msgpack:"object"`
	Size   int    `json:"size" msgpack:"size"`
	Digest string `json:"digest" msgpack:"digest"`
	Type   string `json:"type" msgpack:"type"`
}

// refers is the reference of a reply that succeeded.
func (r reply) refers(t *testing.T) (ref reference) {
	t.Helper()
	if !r.OK || r.keys["result"] != nil || r.keys["result_object"] == nil {
		t.Fatalf("expected a reference to the result, got %+v, keys %v", r.Error, r.keys)
	}
	if err := json.Unmarshal(r.keys["result_object"], &ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

// fetch reads an object as the contract defines it.
func (s *service) fetch(t *testing.T, session, job string, ref reference) []byte {
	t.Helper()
	var all []byte
	ask := m{"object": ref.Object, "job": job}
	if session != "" {
		ask["session"] = session
	}
	for len(all) < ref.Size {
		r := s.request(t, "dspex.rpc.objects.get", text(ask))
		var piece struct {
			Object, Digest, Type, Data, Cursor string
			Size                               int
		}
		if err := json.Unmarshal(r.keys["result"], &piece); err != nil {
			t.Fatalf("%v: %+v", err, r.Error)
		}
		if got := (reference{piece.Object, piece.Size, piece.Digest, piece.Type}); got != ref {
			t.Fatalf("got %+v, want %+v", got, ref)
		}
		data, err := base64.StdEncoding.DecodeString(piece.Data)
		if err != nil || len(data) == 0 {
			t.Fatalf("a piece of %d bytes: %v", len(data), err)
		}
		all, ask["cursor"] = append(all, data...), piece.Cursor
	}
	sum := sha256.Sum256(all)
	if len(all) != ref.Size || hex.EncodeToString(sum[:]) != ref.Digest {
		t.Fatalf("got %d bytes with the digest %x, want %+v", len(all), sum, ref)
	}
	return all
}

func TestALargeResultIsInAnObject(t *testing.T) {
	large := strings.Repeat("a", 400<<10)
	for _, session := range []string{"objects_1", ""} {
		r := stub.call(t, session, "echo", m{"x": large})
		ref := r.refers(t)
		if ref.Type != "application/json" {
			t.Errorf("type %s", ref.Type)
		}
		var result m
		if err := json.Unmarshal(stub.fetch(t, session, r.Job, ref), &result); err != nil || result["x"] != large {
			t.Errorf("session %q: %v", session, err)
		}
	}
}

func TestALargeResultOfMessagePackIsInAnObjectOfMessagePack(t *testing.T) {
	large := bytes.Repeat([]byte{0xff}, 400<<10)
	r := stub.request(t, "dspex.rpc.session.objects_2", packed(body("echo", m{"x": large})), "Content-Type", msgpackType)
	ref := r.refers(t)
	var result m
	if err := msgpack.Unmarshal(stub.fetch(t, "objects_2", r.Job, ref), &result); err != nil || !bytes.Equal(result["x"].([]byte), large) || ref.Type != msgpackType {
		t.Errorf("type %s: %v", ref.Type, err)
	}
}

func TestAResultThatIsTooLargeAsJSONIsInAnObject(t *testing.T) {
	bells := strings.Repeat("\x07", 60<<10) // six bytes each
	stub.call(t, "objects_3", "update_session_data", m{"operation": "set", "key": "a", "value": bells}).succeeds(t)
	stub.call(t, "objects_3", "update_session_data", m{"operation": "set", "key": "b", "value": bells}).succeeds(t)
	r := stub.call(t, "objects_3", "get_session_data", nil)
	ref := r.refers(t)
	if ref.Size < 6*2*len(bells) {
		t.Errorf("%d bytes", ref.Size)
	}
	stub.fetch(t, "objects_3", r.Job, ref)
}

func TestALargeOutcomeIsLookedUpByItsReference(t *testing.T) {
	large := strings.Repeat("b", 400<<10)
	job := stub.publish(t, "dspex.session.objects_4", text(body("echo", m{"x": large})))
	_, r := stub.wait(t, "objects_4", job)
	stub.fetch(t, "objects_4", job, r.refers(t))
	again := stub.request(t, "dspex.rpc.session.objects_4", text(body("echo", m{"x": large})), "Dspex-Job", "twice").refers(t)
	if same := stub.request(t, "dspex.rpc.session.objects_4", text(body("echo", m{"x": large})), "Dspex-Job", "twice").refers(t); same != again {
		t.Errorf("a repeat got %+v, the first %+v", same, again)
	}
}

func TestAnObjectIsReachedThroughItsSessionOnlyAndGoesWithIt(t *testing.T) {
	large := strings.Repeat("c", 400<<10)
	r := stub.call(t, "objects_5", "echo", m{"x": large})
	object, other := r.refers(t).Object, stub.call(t, "objects_6", "echo", m{"x": large})
	get := func(ask m) reply {
		ask["object"], ask["job"] = object, r.Job
		return stub.request(t, "dspex.rpc.objects.get", text(ask))
	}
	get(m{"session": "objects_6"}).fails(t, "session", "object_unknown")
	get(m{}).fails(t, "session", "object_unknown")
	get(m{"session": "objects_5"}).succeeds(t)
	stub.request(t, "dspex.rpc.sessions.erase", text(m{"session": "objects_5"})).succeeds(t)
	get(m{"session": "objects_5"}).fails(t, "session", "object_unknown")
	stub.fetch(t, "objects_6", other.Job, other.refers(t))
}

func TestALargeResultOfABatchGoesWithTheBatch(t *testing.T) {
	job := m{"command": "echo", "args": m{"x": strings.Repeat("d", 400<<10)}, "session": "objects_7"}
	stub.request(t, "dspex.rpc.batches.submit", text(m{"batch": "objects", "jobs": []m{job}})).succeeds(t)
	stub.request(t, "dspex.rpc.batches.get", text(m{"batch": "objects", "wait_ms": patience.Milliseconds()})).succeeds(t)
	var page struct {
		Results []struct {
			Job   string
			Reply json.RawMessage
		}
	}
	r := stub.request(t, "dspex.rpc.batches.results", text(m{"batch": "objects"}))
	if err := json.Unmarshal(r.keys["result"], &page); err != nil || len(page.Results) != 1 {
		t.Fatalf("%v: %s", err, r.keys["result"])
	}
	id, ref := page.Results[0].Job, readBody(t, page.Results[0].Reply).refers(t)
	stub.request(t, "dspex.rpc.sessions.erase", text(m{"session": "objects_7"})).succeeds(t)
	if all := stub.fetch(t, "objects_7", id, ref); ref.Type != "application/json" || !json.Valid(all) {
		t.Errorf("the object is of type %s, expected JSON", ref.Type)
	}
	stub.request(t, "dspex.rpc.batches.erase", text(m{"batch": "objects"})).succeeds(t)
	ask := text(m{"session": "objects_7", "job": id, "object": ref.Object})
	for end := time.Now().Add(patience); time.Now().Before(end); { // the leader removes it
		if r = stub.request(t, "dspex.rpc.objects.get", ask); !r.OK {
			break
		}
	}
	r.fails(t, "session", "object_unknown")
}

func TestLargeArgumentsOfABatchThatAreUploadedAgainAreTheSameJobs(t *testing.T) {
	submit := func(args m) reply {
		ref := stub.upload(t, "objects_8", args)
		job := m{"command": "echo", "args_object": ref, "session": "objects_8"}
		return stub.request(t, "dspex.rpc.batches.submit", text(m{"batch": "objects-2", "jobs": []m{job}}))
	}
	large := m{"x": strings.Repeat("e", 400<<10)}
	submit(large).succeeds(t)
	submit(large).succeeds(t)
	submit(m{"x": strings.Repeat("f", 400<<10)}).fails(t, "session", "conflict")
}

func TestRequestsForObjectsAreChecked(t *testing.T) {
	for ask, path := range map[string]string{
		`{"job": "j"}`: "object", `{"object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`: "job",
		`{"job": "j", "object": "a.b"}`: "object", `{"job": "j", "object": "*"}`: "object",
		`{"job": "j.>", "object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`:            "job",
		`{"job": "j", "object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "cursor": 1}`: "cursor", `{"job": "j", "object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "cursor": "-1"}`: "cursor",
		`{"job": "j", "object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "session": "a.>"}`: "session",
		`{"job": "j", "object": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "tenant": "a"}`:    "tenant",
	} {
		stub.request(t, "dspex.rpc.objects.get", []byte(ask)).refused(t, "python", "bad_request", path)
	}
}

// upload stores large arguments as the contract defines it.
func (s *service) upload(t *testing.T, session string, args any) reference {
	t.Helper()
	data := text(args)
	ask := m{}
	if session != "" {
		ask["session"] = session
	}
	for piece := range slices.Chunk(data, 128<<10) {
		ask["data"] = base64.StdEncoding.EncodeToString(piece)
		r := s.request(t, "dspex.rpc.objects.upload", text(ask))
		r.succeeds(t)
		result := r.Result.(m)
		ask["object"], ask["cursor"] = result["object"], result["cursor"]
	}
	sum := sha256.Sum256(data)
	ref := reference{ask["object"].(string), len(data), hex.EncodeToString(sum[:]), "application/json"}
	r := s.request(t, "dspex.rpc.objects.complete", text(whole(session, ref)))
	r.succeeds(t)
	return ref
}

func whole(session string, ref reference) m {
	ask := m{"object": ref.Object, "size": ref.Size, "digest": ref.Digest, "type": ref.Type}
	if session != "" {
		ask["session"] = session
	}
	return ask
}

func (ref reference) asArgs(command string, args m) m {
	body := m{"command": command, "args_object": ref}
	if args != nil {
		body["args"] = args
	}
	return body
}

func TestLargeArgumentsAreUploadedAndReadBeforeTheJobRuns(t *testing.T) {
	large := strings.Repeat("e", 700<<10)
	for _, session := range []string{"objects_8", ""} {
		ref := stub.upload(t, session, m{"x": large})
		subject := "dspex.rpc.anonymous"
		if session != "" {
			subject = "dspex.rpc.session." + session
		}
		r := stub.request(t, subject, text(ref.asArgs("echo", m{"y": 1})))
		var result m
		if err := json.Unmarshal(stub.fetch(t, session, r.Job, r.refers(t)), &result); err != nil || result["x"] != large || result["y"] != 1.0 {
			t.Errorf("session %q: %v", session, err)
		}
	}
	ref := stub.upload(t, "objects_8", m{"text": "short"})
	_, r := stub.wait(t, "objects_8", stub.publish(t, "dspex.session.objects_8", text(ref.asArgs("echo", nil))))
	if r.succeeds(t); r.Result.(m)["text"] != "short" {
		t.Errorf("got %v", r.Result)
	}
}

func TestTheSameArgumentsUploadedAgainAreTheSameJobAndOthersAConflict(t *testing.T) {
	call := func(args m) reply {
		return stub.request(t, "dspex.rpc.session.objects_9", text(stub.upload(t, "objects_9", args).asArgs("echo", nil)), "Dspex-Job", "once")
	}
	first := call(m{"x": 1})
	first.succeeds(t)
	if again := call(m{"x": 1}); again.Job != "once" || again.Attempt != first.Attempt || !again.OK {
		t.Errorf("the same arguments: %+v", again)
	}
	call(m{"x": 2}).fails(t, "session", "conflict")
}

func TestArgumentsThatAreGoneOrNotWhatTheReferenceSaysFailTheJob(t *testing.T) {
	ref := stub.upload(t, "objects_10", m{"x": 1})
	ask := func(session string, ref reference, args m) reply {
		return stub.request(t, "dspex.rpc.session."+session, text(ref.asArgs("echo", args)))
	}
	ask("objects_11", ref, nil).fails(t, "session", "object_unknown") // another session's
	other := ref
	other.Digest = strings.Repeat("0", 64)
	ask("objects_10", other, nil).fails(t, "python", "bad_input")
	ask("objects_10", ref, m{"x": 2}).fails(t, "python", "bad_input") // twice
	ask("objects_10", stub.upload(t, "objects_10", []int{1}), nil).fails(t, "python", "bad_input")
	ask("objects_10", stub.upload(t, "objects_10", m{"session_id": "objects_11"}), nil).fails(t, "python", "bad_input")
	stub.request(t, "dspex.rpc.sessions.erase", text(m{"session": "objects_10"})).succeeds(t)
	ask("objects_10", ref, nil).fails(t, "session", "object_unknown")
	for path, body := range map[string]m{
		"args_object":        {"command": "set_lm", "args_object": ref},
		"args_object.object": {"command": "echo", "args_object": reference{"a", 1, ref.Digest, ref.Type}},
		"args_object.size":   {"command": "echo", "args_object": reference{ref.Object, 0, ref.Digest, ref.Type}},
		"args_object.digest": {"command": "echo", "args_object": reference{ref.Object, 1, "00", ref.Type}},
		"args_object.type":   {"command": "echo", "args_object": reference{ref.Object, 1, ref.Digest, "text/plain"}},
	} {
		stub.request(t, "dspex.rpc.session.objects_10", text(body)).refused(t, "python", "bad_request", path)
	}
}

func TestAnUploadIsWhatItsSizeAndDigestSay(t *testing.T) {
	put := func(ask m) reply { return stub.request(t, "dspex.rpc.objects.upload", text(ask)) }
	a, b := base64.StdEncoding.EncodeToString([]byte("{")), base64.StdEncoding.EncodeToString([]byte("}"))
	first := put(m{"data": a}).Result.(m)
	next := m{"data": b, "object": first["object"], "cursor": first["cursor"]}
	second := put(next)
	if again := put(next); again.Result.(m)["cursor"] != second.Result.(m)["cursor"] {
		t.Errorf("the same piece again: %v, first %v", again.Result, second.Result)
	}
	put(m{"data": a, "object": first["object"], "cursor": first["cursor"]}).fails(t, "session", "conflict")
	sum := sha256.Sum256([]byte("{}"))
	ref := reference{first["object"].(string), 2, hex.EncodeToString(sum[:]), "application/json"}
	complete := func(ref reference) reply { return stub.request(t, "dspex.rpc.objects.complete", text(whole("", ref))) }
	bad := ref
	bad.Digest = strings.Repeat("0", 64)
	complete(bad).refused(t, "python", "bad_request", "digest")
	bad = ref
	bad.Size = 9 << 20
	complete(bad).fails(t, "session", "too_large")
	bad.Size, bad.Object = 2, strings.Repeat("A", 26)
	complete(bad).fails(t, "session", "object_unknown")
	for range 2 {
		r := complete(ref)
		r.succeeds(t)
	}
}

// TestAnExportRefersToNoObject: a session's state has what came by reference itself, and outcomes are no part of the document.
func TestAnExportRefersToNoObject(t *testing.T) {
	ref := stub.upload(t, "objects_12", m{"operation": "set", "key": "k", "value": "came by reference"})
	stub.request(t, "dspex.rpc.session.objects_12", text(ref.asArgs("update_session_data", nil))).succeeds(t)
	r := stub.call(t, "objects_12", "echo", m{"x": strings.Repeat("f", 400<<10)})
	answer := stub.ask(t, "sessions.export", m{"session": "objects_12"})
	answer.succeeds(t)
	document := string(answer.keys["result"])
	for _, id := range []string{ref.Object, r.refers(t).Object} {
		if strings.Contains(document, id) {
			t.Errorf("the document refers to the object %s: %s", id, document)
		}
	}
	stub.request(t, "dspex.rpc.sessions.erase", text(m{"session": "objects_12"})).succeeds(t)
	stub.ask(t, "sessions.import", m{"session": "objects_13", "document": answer.Result}).succeeds(t)
	if got := stub.call(t, "objects_13", "get_session_data", nil); !strings.Contains(string(got.keys["result"]), "came by reference") {
		t.Errorf("after the import: %s", got.keys["result"])
	}
}
