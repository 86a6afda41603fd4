package host

import (
	"testing"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
)

// TestAPushedProgramIsOursInControl: the dispatcher, which knows no frames, would name it as foreign else.
func TestAPushedProgramIsOursInControl(t *testing.T) {
	for _, b := range []frame.ProgramBody{{ID: "qa", Version: 1, Record: []byte{0x80}}, {ID: "qa.b", Version: 2}} {
		if !jobs.OursInControl(pushedKey(b.ID), b.AppendBody(nil)) {
			t.Errorf("%+v is taken for foreign", b)
		}
	}
}
