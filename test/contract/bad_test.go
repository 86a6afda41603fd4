package contract

import (
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// bad is a request that must be refused.
type bad struct {
	name     string
	kind     string // content type, JSON if empty
	data     []byte
	category string // python if empty
	code     string // bad_request if empty
	path     string
}

func badJSON(path string, bodies ...string) (list []bad) {
	for _, b := range bodies {
		list = append(list, bad{name: b, data: []byte(b), path: path})
	}
	return list
}

// badOption are values that one option does not take.
func badOption(name string, values ...string) (list []bad) {
	for _, v := range values {
		b := fmt.Sprintf(`{"command": "append", "args": {"x": 1}, "options": {%q: %s}}`, name, v)
		list = append(list, bad{name: name + " " + v, data: []byte(b), code: "bad_option", path: "options." + name})
	}
	return list
}

func badPack(name, path, digits string) bad {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return bad{name: "msgpack " + name, kind: msgpackType, data: b, path: path}
}

func nested(open, shut string, deep int) string {
	return strings.Repeat(open, deep) + strings.Repeat(shut, deep)
}

// unreadable are bodies that are no value of values.md, or not a request.
func unreadable() []bad {
	const appendX = `{"command": "append", "args": {"x": 1`
	list := badJSON("", ``, ` `, `nope`, `'x'`, `[]`, `"append"`, `1`, `null`, `{"command": "append"} x`, "\ufeff"+`{"command": "append"}`,
		`{"command": "append",}`, `{"command": "append"`, `{command: "append"}`, `// {"command": "append"}`)
	list = append(list, badJSON("command", `{}`, `{"args": {"x": 1}}`, `{"command": ""}`, `{"command": 5}`, `{"command": null}`, `{"command": ["append"]}`,
		`{"command": "Append"}`, `{"command": "append now"}`, `{"command": "`+strings.Repeat("a", 65)+`"}`, `{"command": "append", "command": "append"}`)...)
	list = append(list, badJSON("Command", `{"command": "append", "Command": "append"}`)...)
	list = append(list, badJSON("argz", `{"command": "append", "argz": {}}`)...)
	list = append(list, badJSON("args", `{"command": "append", "args": [1]}`, `{"command": "append", "args": "x"}`, `{"command": "append", "args": null}`)...)
	list = append(list, badJSON("options", `{"command": "append", "options": []}`, `{"command": "append", "options": "fast"}`)...)
	list = append(list, badJSON("args.x", appendX+`, "x": 2}}`, `{"command": "append", "args": {"x": "\ud800"}}`, `{"command": "append", "args": {"x": "\ud800\u0041"}}`,
		"{\"command\": \"append\", \"args\": {\"x\": \"\xff\xfe\"}}", "{\"command\": \"append\", \"args\": {\"x\": \"\xc0\xaf\"}}", "{\"command\": \"append\", \"args\": {\"x\": \"a\nb\"}}",
		`{"command": "append", "args": {"x": NaN}}`, `{"command": "append", "args": {"x": Infinity}}`, `{"command": "append", "args": {"x": 1e999}}`,
		`{"command": "append", "args": {"x": 18446744073709551616}}`, `{"command": "append", "args": {"x": -9223372036854775809}}`,
		`{"command": "append", "args": {"x": 01}}`, `{"command": "append", "args": {"x": .5}}`, `{"command": "append", "args": {"x": tru}}`)...)
	list = append(list, badJSON("args.X", appendX+`, "X": 2}}`)...)
	list = append(list, badJSON("args.x.b", `{"command": "append", "args": {"x": {"a": 1, "b": 2, "c": 3, "b": 4}}}`)...)
	list = append(list, badJSON("args.x[1].K", `{"command": "append", "args": {"x": [0, {"k": 1, "K": 2}]}}`)...)
	deep := bad{name: "too deep", data: []byte(`{"command": "append", "args": {"x": ` + nested("[", "]", 63) + `}}`), path: "args.x" + strings.Repeat("[0]", 62)}
	wide := bad{name: "too many values", data: []byte(`{"command": "append", "args": {"x": [` + strings.Repeat("1,", 100_000) + `1]}}`), category: "session", code: "too_large"}
	big := bad{name: "too many bytes", data: []byte(`{"command": "append", "args": {"x": "` + strings.Repeat("a", 512<<10) + `"}}`), category: "session", code: "too_large"}
	return append(list, deep, wide, big)
}

// unreadablePacks are MessagePack bodies whose structure lies, or is not allowed.
func unreadablePacks() []bad {
	const head = "82a7636f6d6d616e64a6617070656e64a46172677381a178" // {"command": "append", "args": {"x":
	return []bad{
		badPack("an array that promises 2^32-1 values", "args.x", head+"ddffffffff"),
		badPack("a map that promises 2^32-1 entries", "args.x", head+"dfffffffff"),
		badPack("a text that promises 2^32-1 bytes", "args.x", head+"dbffffffff61"),
		badPack("bytes that promise 2^32-1 bytes", "args.x", head+"c6ffffffff61"),
		badPack("a short array that promises one more", "args.x", head+"9201"),
		badPack("an end inside of a number", "args.x", head+"cf0000"),
		badPack("an end inside of a text", "args.x", head+"a5616263"),
		badPack("a body that ends early", "command", "82a7636f6d6d616e64"),
		badPack("a map that promises one more entry", "", "82a7636f6d6d616e64a6617070656e64"),
		badPack("an extension", "args.x", head+"d40100"),
		badPack("a long extension", "args.x", head+"c9ffffffff01"),
		badPack("a time stamp", "args.x", head+"d6ff00000000"),
		badPack("the code that is never used", "args.x", head+"c1"),
		badPack("a text that is not UTF-8", "args.x", head+"a1ff"),
		badPack("bytes behind the value", "", head+"01c0"),
		badPack("a key that is a number", "args.x", head+"810102"),
		badPack("a key that is nil", "args.x", head+"81c002"),
		badPack("a key twice", "args.x.a", head+"82a16101a16102"),
		badPack("keys that differ by case", "args.x.A", head+"82a16101a14102"),
		badPack("too deep", "args.x"+strings.Repeat("[0]", 62), head+strings.Repeat("91", 63)+"01"),
		badPack("not a map", "", "93010203"),
		badPack("nothing", "", ""),
		{name: "JSON that says it is MessagePack", kind: msgpackType, data: text(body("append", m{"x": 1}))},
		{name: "MessagePack that says it is JSON", data: packed(body("append", m{"x": 1}))},
	}
}

func badOptions() (list []bad) {
	list = append(list, badOption("timeout", `0`, `-1`, `1.5`, `"5"`, `"soon"`, `true`, `null`, `86400001`, `"25h"`, `[]`)...)
	list = append(list, badOption("deadline", `0`, `"5"`, `86400001`)...)
	list = append(list, badOption("max_retries", `-1`, `21`, `1.5`, `"3"`, `null`)...)
	list = append(list, badOption("backoff", `"quick"`, `[]`, `[30001]`, `[-1]`, `["1s"]`, `[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21]`, `100`, `{}`)...)
	list = append(list, badOption("stream", `1`, `"yes"`, `null`)...)
	list = append(list, badOption("require_state", `0`, `"no"`)...)
	list = append(list, badOption("lm", `""`, `1`, `null`, `"`+strings.Repeat("x", 129)+`"`)...)
	list = append(list, badOption("temperature", `-0.1`, `2.1`, `"hot"`, `true`)...)
	list = append(list, badOption("module", `"exec"`, `1`, `""`)...)
	list = append(list, badOption("signature", `1`, `[]`, `true`)...)
	list = append(list, badOption("outputs", `"answer"`, `1`, `{}`)...)
	list = append(list, badOption("retries", `1`)...)
	return append(list, badOption("Timeout", `1000`)...)
}

func badTypes() []bad {
	good := text(body("append", m{"x": 1}))
	return []bad{
		{name: "text", kind: "text/plain", data: good, code: "bad_header", path: "Content-Type"},
		{name: "form", kind: "application/x-www-form-urlencoded", data: good, code: "bad_header", path: "Content-Type"},
		{name: "nonsense", kind: "json", data: good, code: "bad_header", path: "Content-Type"},
	}
}

func TestBadRequestsAreRefusedAtEveryEndpointAndChangeNothing(t *testing.T) {
	const session = "bad_1"
	stub.call(t, session, "append", m{"x": "kept"}).succeeds(t)
	before := stub.call(t, session, "get_session_data", nil).Result
	var all []bad
	for _, some := range [][]bad{unreadable(), unreadablePacks(), badOptions(), badTypes()} {
		all = append(all, some...)
	}
	for _, b := range all {
		t.Run(short(b.name), func(t *testing.T) {
			category, code := b.category, b.code
			if category == "" {
				category = "python"
			}
			if code == "" {
				code = "bad_request"
			}
			var headers []string
			if b.kind != "" {
				headers = []string{"Content-Type", b.kind}
			}
			for _, endpoint := range []string{"dspex.rpc.session." + session, "dspex.rpc.anonymous"} {
				r := stub.request(t, endpoint, b.data, headers...)
				r.refused(t, category, code, b.path)
				if r.Job != "" || r.keys["timing"] != nil || r.header.Get("Dspex-Job") != "" {
					t.Errorf("%s: what became no job has an id: %+v", endpoint, r)
				}
			}
			for endpoint, of := range map[string]string{"dspex.session." + session: session, "dspex.anonymous.interactive": "", "dspex.anonymous.batch": ""} {
				job := stub.publish(t, endpoint, b.data, headers...)
				o, r := stub.wait(t, of, job)
				r.refused(t, category, code, b.path)
				if o.Outcome != "failed" || o.Attempts != 0 || r.Job != job {
					t.Errorf("%s: %+v %+v", endpoint, o, r)
				}
			}
		})
	}
	if after := stub.call(t, session, "get_session_data", nil).Result; !reflect.DeepEqual(after, before) {
		t.Errorf("the session's data were %v, and are %v", before, after)
	}
}

func short(name string) string {
	if len(name) > 60 {
		return name[:60] + "..."
	}
	return name
}

func TestBadHeadersAreRefused(t *testing.T) {
	ask := text(body("append", m{"x": 1}))
	for _, c := range []struct {
		headers []string
		path    string
	}{
		{[]string{"Dspex-Jobs", "x"}, "Dspex-Jobs"},
		{[]string{"dspex-job", "x"}, "dspex-job"},
		{[]string{"DSPEX-DEADLINE", "100"}, "DSPEX-DEADLINE"},
		{[]string{"Dspex-Attempt", "1"}, "Dspex-Attempt"},
		{[]string{"Dspex-Partial", "1"}, "Dspex-Partial"},
		{[]string{"Dspex-Job", "x", "Dspex-Job", "y"}, "Dspex-Job"},
		{[]string{"Content-Type", jsonType, "Content-Type", msgpackType}, "Content-Type"},
		{[]string{"content-type", msgpackType}, "content-type"},
		{[]string{"Dspex-Deadline", "soon"}, "Dspex-Deadline"},
		{[]string{"Dspex-Deadline", ""}, "Dspex-Deadline"},
		{[]string{"Dspex-Job", ""}, "Dspex-Job"},
		{[]string{"Dspex-Deadline", "0"}, "Dspex-Deadline"},
		{[]string{"Dspex-Deadline", "-5"}, "Dspex-Deadline"},
		{[]string{"Dspex-Deadline", "1.5"}, "Dspex-Deadline"},
		{[]string{"Dspex-Deadline", "86400001"}, "Dspex-Deadline"},
		{[]string{"Dspex-Mode", "later"}, "Dspex-Mode"},
		{[]string{"X-Much", strings.Repeat("a", 9000)}, ""},
	} {
		t.Run(c.headers[0], func(t *testing.T) {
			for _, endpoint := range []string{"dspex.rpc.session.bad_2", "dspex.rpc.anonymous"} {
				stub.request(t, endpoint, ask, c.headers...).refused(t, "python", "bad_header", c.path)
			}
			if c.headers[0] == "Dspex-Job" {
				return // its PubAck does not show under which of the two it failed
			}
			for endpoint, of := range map[string]string{"dspex.session.bad_2": "bad_2", "dspex.anonymous.batch": ""} {
				_, r := stub.wait(t, of, stub.publish(t, endpoint, ask, c.headers...))
				r.refused(t, "python", "bad_header", c.path)
			}
		})
	}
	for name, value := range map[string]string{"Dspex-Reply-To": "_INBOX.x", "Dspex-Mode": "queue", "Nats-TTL": "1h"} {
		stub.request(t, "dspex.rpc.session.bad_2", ask, name, value).refused(t, "python", "bad_header", name)
	}
	// A published job that would vanish by itself is refused by the broker.
	answer, err := stub.nc.RequestMsg(message("dspex.session.bad_2", ask, "Nats-TTL", "1h"), patience)
	if err != nil || !strings.Contains(string(answer.Data), `"error"`) {
		t.Errorf("%v %v", answer, err)
	}
	_, r := stub.wait(t, "bad_2", stub.publish(t, "dspex.session.bad_2", text(body("append", m{"x": 1}, m{"deadline": 1000})), "Dspex-Deadline", "1000"))
	r.refused(t, "python", "bad_option", "options.deadline")
	stub.request(t, "dspex.rpc.session.bad_2", text(body("append", m{"x": 1}, m{"deadline": 1000})), "Dspex-Deadline", "1000").refused(t, "python", "bad_option", "options.deadline")
	if list := stub.call(t, "bad_2", "append", m{"x": "only"}).Result.(m)["list"].([]any); len(list) != 1 {
		t.Errorf("a refused job ran: %v", list)
	}
}

func TestAllContentTypesOfTheContractAreTaken(t *testing.T) {
	want := map[string]string{
		jsonType: jsonType, "application/json; charset=utf-8": jsonType, "APPLICATION/JSON": jsonType,
		msgpackType: msgpackType, "application/vnd.msgpack": msgpackType, "application/x-msgpack": msgpackType,
	}
	for kind, answered := range want {
		data := text(body("echo", m{"x": []any{1, "é", nil, true, 1.5}}))
		if answered == msgpackType {
			data = packed(body("echo", m{"x": []any{1, "é", nil, true, 1.5}}))
		}
		r := stub.request(t, "dspex.rpc.session.bad_3", data, "Content-Type", kind)
		r.succeeds(t)
		if got := r.header.Get("Content-Type"); got != answered {
			t.Errorf("%s is answered as %s", kind, got)
		}
		if got := fmt.Sprint(r.Result.(m)["x"]); got != "[1 é <nil> true 1.5]" {
			t.Errorf("%s: %s", kind, got)
		}
		// A refusal comes in the same form.
		data = data[:len(data)-1]
		if r := stub.request(t, "dspex.rpc.session.bad_3", data, "Content-Type", kind); r.header.Get("Content-Type") != answered {
			t.Errorf("%s is refused as %s", kind, r.header.Get("Content-Type"))
		}
	}
}

func TestBytesAreBase64InJSONReplies(t *testing.T) {
	ask := packed(body("echo", m{"x": []byte{0, 255, 16}}))
	stub.request(t, "dspex.rpc.session.bad_4", ask, "Dspex-Job", "bytes", "Content-Type", msgpackType).succeeds(t)
	_, r := stub.wait(t, "bad_4", "bytes")
	if r.Result.(m)["x"] != "AP8Q" {
		t.Errorf("%v", r.Result)
	}
}

func TestAMessageWithoutReplySubjectIsNotRun(t *testing.T) {
	if err := stub.nc.PublishMsg(&nats.Msg{Subject: "dspex.rpc.session.bad_5", Data: text(body("append", m{"x": 1}))}); err != nil {
		t.Fatal(err)
	}
	if list := stub.call(t, "bad_5", "append", m{"x": 2}).Result.(m)["list"].([]any); len(list) != 1 {
		t.Errorf("nobody could have been answered, and it ran: %v", list)
	}
}

func TestNumbersThatJSONDoesNotHaveAreTexts(t *testing.T) {
	ask := packed(body("echo", m{"x": math.NaN(), "y": math.Inf(1), "z": math.Inf(-1)}))
	if _, err := stub.nc.RequestMsg(message("dspex.rpc.session.bad_6", ask, "Dspex-Job", "nan", "Content-Type", msgpackType), patience); err != nil {
		t.Fatal(err)
	}
	found := stub.request(t, "dspex.rpc.jobs.get", text(m{"session": "bad_6", "job": "nan"}))
	found.succeeds(t)
	got := found.Result.(m)["reply"].(m)["result"].(m)
	for name, want := range map[string]string{"x": "NaN", "y": "Infinity", "z": "-Infinity"} {
		if got[name] != want {
			t.Errorf("%s: got %v, want the text %q", name, got[name], want)
		}
	}
}
