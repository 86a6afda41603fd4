package batch

import (
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// refers is a job whose arguments were uploaded as an object.
func refers(object, data string) []byte {
	body := wire.AppendMap(nil, 2)
	body = jobs.NewObjectRef(strings.Repeat(object, 26), []byte(data), jobs.JSON).Append(wire.AppendStr(body, "args_object"))
	return wire.AppendStr(wire.AppendStr(body, "command"), "echo")
}

func TestAJobWhoseArgumentsAreUploadedAgainIsTheSame(t *testing.T) {
	chunk := func(lines ...Line) *Chunk { return &Chunk{First: 7, Lines: lines} }
	is := Line{ID: "r", Session: "s", Body: refers("A", "{}")}
	for name, c := range map[string]struct {
		with *Chunk
		same bool
	}{
		"itself":            {chunk(is), true},
		"uploaded again":    {chunk(Line{ID: "r", Session: "s", Body: refers("B", "{}")}), true},
		"other arguments":   {chunk(Line{ID: "r", Session: "s", Body: refers("A", "[]")}), false},
		"another id":        {chunk(Line{ID: "q", Session: "s", Body: is.Body}), false},
		"another session":   {chunk(Line{ID: "r", Session: "t", Body: is.Body}), false},
		"another command":   {chunk(Line{ID: "r", Session: "s", Body: []byte{0x80}}), false},
		"one that is bad":   {chunk(Line{ID: "r", Session: "s", Body: is.Body, Bad: []byte{0x80}}), false},
		"two":               {chunk(is, is), false},
		"at another place":  {&Chunk{First: 8, Lines: []Line{is}}, false},
		"one without bytes": {chunk(Line{ID: "r", Session: "s"}), false},
	} {
		if same := chunk(is).Same(c.with); same != c.same {
			t.Errorf("%s: same is %v, expected %v", name, same, c.same)
		}
	}
}
