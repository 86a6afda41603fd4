package sim

import (
	"encoding/json"

	"github.com/dspex/dspex/internal/wire"
)

// objectsComeFirst: no outcome refers to a result that is not stored whole.
func (c *checker) objectsComeFirst() {
	c.h.each(func(e event) {
		if e.kind == objected {
			c.objects[e.text] = e.body
			return
		}
		var r reply
		if decodeReply(e.body, &r) != nil || r.Object.ID == "" {
			return
		}
		if _, there := c.objects[r.Object.ID]; !there {
			c.fail("%s has an outcome that refers to the object %s, which is not stored", key(e), r.Object.ID)
		}
	}, objected, committed, resulted)
}

// listOf is the list of a reply, which may be in an object.
func (c *checker) listOf(r reply) (list []string) {
	data := []byte(c.objects[r.Object.ID])
	if r.Object.ID == "" {
		return r.list()
	}
	if json.Unmarshal(data, &list) != nil {
		_ = wire.Decode(data, &list) // what is neither differs from what is expected
	}
	return list
}
