package dspex

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// SessionState is what the worker that ran a job had of its session.
type SessionState string

// The states of a session in a reply.
const (
	SessionWarm     SessionState = "warm"     // the worker held it in memory
	SessionRestored SessionState = "restored" // it was read from the stored record
	SessionNone     SessionState = "none"     // nothing was known of the session
	SessionReset    SessionState = "reset"    // its state is known to be lost
)

// Reply is the answer of a job that succeeded. Of a job that failed it reports where the job ran.
type Reply struct {
	Job          JobRef
	Attempt      int             // 1 is the first
	Result       json.RawMessage // of predict: a map of the outputs
	SessionState SessionState    // "" for an anonymous job
	Host         string
	Worker       string          // "" if no worker was needed
	Engine       string          // such as "dspy 3.4.1"
	Queued       time.Duration   // from acceptance to the start of the last attempt
	Run          time.Duration   // the last attempt
	Usage        map[string]any  // of the language models, by model
	Object       *Object         // where the service keeps a result that is too large for a message; Result has it all the same
	Raw          json.RawMessage // the raw response body
}

// Object is a reference to a large payload.
type Object struct {
	ID     string `json:"object"`
	Size   int    `json:"size"`
	Digest string `json:"digest"` // SHA-256, in hexadecimal digits
	Type   string `json:"type"`   // content type
}

// Decode reads the result into v, as json.Unmarshal does.
func (r Reply) Decode(v any) error { return json.Unmarshal(r.Result, v) }

// Outputs is the result as a map; nil if it is something else.
func (r Reply) Outputs() map[string]any {
	var outputs map[string]any
	if r.Decode(&outputs) != nil {
		return nil
	}
	return outputs
}

// wireReply is the body of a reply.
type wireReply struct {
	OK      *bool           `json:"ok"`
	Result  json.RawMessage `json:"result"`
	Object  *Object         `json:"result_object"`
	Error   *wireError      `json:"error"`
	Job     string          `json:"job"`
	Attempt int             `json:"attempt"`
	Session struct {
		ID     string       `json:"id"`
		Host   string       `json:"host"`
		Worker string       `json:"worker"`
		State  SessionState `json:"state"`
	} `json:"session"`
	RanOn struct {
		Host   string `json:"host"`
		Worker string `json:"worker"`
	} `json:"ran_on"`
	Engine string `json:"engine"`
	Timing struct {
		QueuedMS float64 `json:"queued_ms"`
		RunMS    float64 `json:"run_ms"`
	} `json:"timing"`
	Usage map[string]any `json:"usage"`
}

// fromMillis is a duration of the wire.
func fromMillis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// parseReply reads the body of a reply. The error of a failed job is an *Error, and the reply then still reports where it ran. job is what is
// known of the job without the body.
func parseReply(body []byte, job JobRef) (Reply, error) {
	var w wireReply
	if !w.scan(body) {
		w = wireReply{}
		if err := json.Unmarshal(body, &w); err != nil {
			return Reply{}, badReply("the reply is not the expected JSON: %v", err)
		}
	}
	if w.Job != "" {
		job.ID = w.Job
	}
	r := Reply{
		Job: job, Attempt: w.Attempt, Result: w.Result, SessionState: w.Session.State, Host: w.Session.Host, Worker: w.Session.Worker,
		Engine: w.Engine, Usage: w.Usage, Object: w.Object, Queued: fromMillis(w.Timing.QueuedMS), Run: fromMillis(w.Timing.RunMS), Raw: body,
	}
	if w.RanOn.Host != "" {
		r.Host, r.Worker = w.RanOn.Host, w.RanOn.Worker
	}
	switch {
	case w.OK == nil:
		return Reply{}, badReply(`the reply has no "ok"`)
	case *w.OK:
		return r, nil
	case w.Error == nil:
		return r, badReply("the reply of a failed job must have an error, got none")
	}
	return r, w.Error.error(job, w.Attempt)
}

// readReply also understands a service error without body, as NATS micro services send it.
func readReply(m *nats.Msg, job JobRef) (Reply, error) {
	if text := m.Header.Get(contract.HeaderError); text != "" && len(m.Data) == 0 {
		return Reply{}, &Error{Category: ErrSystem, Code: "service_error_" + m.Header.Get(contract.HeaderErrorCode), Message: text}
	}
	return parseReply(m.Data, job)
}

// scan reads a reply as the service writes those that succeed: json.Unmarshal without its reflection, which took a fifteenth of what a call over
// HTTP costs the gateway. False: the reply is of another form, or is no JSON, and may have been read in part.
func (w *wireReply) scan(body []byte) bool {
	return json.Valid(body) && contract.Members(body, func(key, value []byte) bool {
		switch string(key) {
		case "ok":
			yes := string(value) == "true"
			w.OK = &yes
			return yes
		case "result":
			w.Result = value
			return true
		case "job":
			return scanText(value, &w.Job)
		case "attempt":
			n, err := strconv.Atoi(string(value))
			w.Attempt = n
			return err == nil
		case "session":
			return scanTexts(value, named{"id", &w.Session.ID}, named{"host", &w.Session.Host}, named{"worker", &w.Session.Worker}, named{"state", (*string)(&w.Session.State)})
		case "ran_on":
			return scanTexts(value, named{"host", &w.RanOn.Host}, named{"worker", &w.RanOn.Worker})
		case "engine":
			return scanText(value, &w.Engine)
		case "timing":
			return contract.Members(value, w.scanTiming)
		case "usage":
			return json.Unmarshal(value, &w.Usage) == nil
		}
		return false
	})
}

func (w *wireReply) scanTiming(key, value []byte) (ok bool) {
	ms, err := strconv.ParseFloat(string(value), 64)
	switch string(key) {
	case "queued_ms":
		w.Timing.QueuedMS, ok = ms, err == nil
	case "run_ms":
		w.Timing.RunMS, ok = ms, err == nil
	}
	return ok
}

// named is where the text of a key goes.
type named struct {
	key string
	to  *string
}

func scanTexts(object []byte, all ...named) bool {
	return contract.Members(object, func(key, value []byte) bool {
		for _, n := range all {
			if n.key == string(key) {
				return scanText(value, n.to)
			}
		}
		return false
	})
}

// scanText reads a text of plain characters.
func scanText(value []byte, to *string) bool {
	for _, c := range value[1:max(len(value)-1, 1)] {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	if value[0] != '"' {
		return false
	}
	*to = string(value[1 : len(value)-1])
	return true
}

func headerInt(m *nats.Msg, name string) int {
	n, _ := strconv.Atoi(m.Header.Get(name))
	return n
}

// largestObject bounds what a client reads of an object, whatever a reference claims.
const largestObject = 1 << 30

// resolved has the result that a reply refers to in its place. An object that is gone is an error of code object_unknown.
func (c *Client) resolved(ctx context.Context, r Reply, err error) (Reply, error) {
	if err != nil || r.Object == nil {
		return r, err
	}
	if r.Result, err = c.fetchObject(ctx, r.Job, *r.Object); err != nil {
		return r, err
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(r.Raw, &body); err != nil {
		return r, badReply("the reply is not the expected JSON: %v", err)
	}
	delete(body, "result_object")
	body["result"] = r.Result
	r.Raw, err = json.Marshal(body)
	return r, err
}

// fetchObject reads an object piece by piece and checks it.
func (c *Client) fetchObject(ctx context.Context, job JobRef, o Object) (json.RawMessage, error) {
	if o.Size < 0 || o.Size > largestObject {
		return nil, badReply("an object must have at most %d bytes, got %d", largestObject, o.Size)
	}
	ask := map[string]any{"object": o.ID, "job": job.ID}
	if job.Session != "" {
		ask["session"] = job.Session
	}
	var data []byte
	for len(data) < o.Size {
		reply, err := c.askAgain(ctx, contract.RPCObjectsGet, ask)
		if e := asError(err); e != nil {
			e.Job = job
		}
		if err != nil {
			return nil, err
		}
		var piece struct {
			Data   []byte `json:"data"`
			Cursor string `json:"cursor"`
		}
		if err := reply.Decode(&piece); err != nil || len(piece.Data) == 0 || piece.Cursor == "" {
			return nil, badReply("an object ends after %d of %d bytes", len(data), o.Size)
		}
		data, ask["cursor"] = append(data, piece.Data...), piece.Cursor
	}
	sum := sha256.Sum256(data)
	switch {
	case len(data) != o.Size || hex.EncodeToString(sum[:]) != o.Digest:
		return nil, badReply("an object must match its digest")
	case o.Type != contract.JSON:
		return nil, badReply("the result has no JSON form: its object is of type %s", o.Type)
	case !json.Valid(data):
		return nil, badReply("an object of type JSON must be valid JSON")
	}
	return data, nil
}

// Bounds of a request, as shares of the broker's max_payload, and of a piece of an upload.
const (
	requestShare = 2
	pieceShare   = 4
	mostPiece    = 128 << 10
)

// fit uploads the arguments of a request that is too large, and has it refer to them. The same arguments are the same job, however often they
// are uploaded.
func (c *Client) fit(ctx context.Context, r *request) (err error) {
	r.body, err = c.fitting(ctx, r.body, r.job.Session)
	return err
}

// fitting is a job, a JSON object, with a reference in place of its arguments if it is too large. What the service refuses stays as it is.
func (c *Client) fitting(ctx context.Context, job json.RawMessage, session string) (json.RawMessage, error) {
	var fields, args map[string]json.RawMessage
	var command string
	read := func(text json.RawMessage, into any) bool { return json.Unmarshal(text, into) == nil }
	if len(job) <= int(c.nc.MaxPayload())/requestShare || !read(job, &fields) || !read(fields["command"], &command) || !read(fields["args"], &args) ||
		fields["args_object"] != nil || contract.InlineOnly(command) {
		return job, nil
	}
	inline := map[string]json.RawMessage{}
	for _, key := range contract.InlineArgs {
		if value, has := args[key]; has {
			inline[key] = value
			delete(args, key)
		}
	}
	data, err := json.Marshal(args)
	if err != nil {
		return nil, err // it was decoded before
	}
	ref, err := c.upload(ctx, session, data)
	if err != nil {
		return nil, err
	}
	if fields["args_object"], err = json.Marshal(ref); err != nil {
		return nil, err
	}
	delete(fields, "args")
	if len(inline) > 0 {
		if fields["args"], err = json.Marshal(inline); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// upload stores JSON text as an object.
func (c *Client) upload(ctx context.Context, session string, data []byte) (Object, error) {
	ask := map[string]any{}
	if session != "" {
		ask["session"] = session
	}
	var stored struct {
		Object string `json:"object"`
		Cursor string `json:"cursor"`
	}
	for piece := range slices.Chunk(data, min(mostPiece, int(c.nc.MaxPayload())/pieceShare)) {
		ask["data"] = piece
		reply, err := c.askAgain(ctx, contract.RPCObjectsUpload, ask)
		if err != nil {
			return Object{}, err
		}
		if err := reply.Decode(&stored); err != nil || stored.Object == "" || stored.Cursor == "" {
			return Object{}, badReply("the answer to an upload has no object or no cursor")
		}
		ask["object"], ask["cursor"] = stored.Object, stored.Cursor
	}
	sum := sha256.Sum256(data)
	ref := Object{ID: stored.Object, Size: len(data), Digest: hex.EncodeToString(sum[:]), Type: contract.JSON}
	delete(ask, "data")
	delete(ask, "cursor")
	ask["size"], ask["digest"], ask["type"] = ref.Size, ref.Digest, ref.Type
	_, err := c.askAgain(ctx, contract.RPCObjectsComplete, ask)
	return ref, err
}
