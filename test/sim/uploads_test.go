package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
)

// upload stores the arguments of a job in two pieces, from the beginning until that succeeds, and returns the reference. nil: the end.
func (c *client) upload(o op) map[string]any {
	data := o.encode(o.args())
	for pause := again; ; pause = min(2*pause, time.Minute) {
		if object, ok := c.tryUpload(o, data); ok {
			e := c.event(uploaded, o)
			e.text = object
			c.p.world.history.add(e)
			return reference(object, data, o.msgpack)
		}
		if !c.sleep(pause) {
			return nil
		}
	}
}

func reference(object string, data []byte, msgpack bool) map[string]any {
	sum, form := sha256.Sum256(data), jobs.JSON
	if msgpack {
		form = jobs.MsgPack
	}
	return map[string]any{"object": object, "size": len(data), "digest": hex.EncodeToString(sum[:]), "type": form}
}

// tryUpload sends each piece again whose answer does not come: it is stored once all the same.
func (c *client) tryUpload(o op, data []byte) (object string, ok bool) {
	half := len(data) / 2
	cursor := ""
	for _, piece := range [][]byte{data[:half], data[half:]} {
		body := map[string]any{"data": base64.StdEncoding.EncodeToString(piece)}
		if object != "" {
			body["object"], body["cursor"] = object, cursor
		}
		a, ok := c.askObject(o, contract.RPCObjectsUpload, body)
		if !ok && object != "" { // the first piece would begin another object
			a, ok = c.askObject(o, contract.RPCObjectsUpload, body)
		}
		if !ok {
			return "", false
		}
		object, cursor = a.Result.Object, a.Result.Cursor
	}
	whole := reference(object, data, o.msgpack)
	_, ok = c.askObject(o, contract.RPCObjectsComplete, whole)
	if !ok {
		_, ok = c.askObject(o, contract.RPCObjectsComplete, whole)
	}
	return object, ok
}

// objectAnswer is what a client reads of an answer.
type objectAnswer struct {
	OK     bool `json:"ok"`
	Result struct {
		Object string `json:"object"`
		Cursor string `json:"cursor"`
	} `json:"result"`
}

func (c *client) askObject(o op, subject string, body map[string]any) (a objectAnswer, ok bool) {
	if o.session != "" {
		body["session"] = o.session
	}
	data, _ := json.Marshal(body)
	m, err := c.p.nc.Request(o.request(subject), data, replyWait)
	if err != nil || json.Unmarshal(m.Data, &a) != nil {
		return a, false
	}
	return a, a.OK
}

// uploadsAreThere: a job whose arguments were uploaded whole finds them, unless its session was erased.
func (c *checker) uploadsAreThere() {
	erased, whole := map[string]bool{}, map[string]bool{}
	c.h.each(func(e event) {
		switch {
		case e.kind == uploaded:
			whole[key(e)] = true
		case command(e) == "cleanup_session":
			erased[e.session] = true
		}
	}, uploaded, stored)
	c.h.each(func(e event) {
		if e.text == jobs.CodeObjectUnknown && whole[key(e)] && !erased[e.session] && !c.h.struck(emptied) {
			c.fail("%s has not found the arguments that were uploaded for it", cmp.Or(key(e), "a job"))
		}
	}, answered, lookedUp)
}
