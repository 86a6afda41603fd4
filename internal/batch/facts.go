package batch

import (
	"github.com/dspex/dspex/internal/wire"
)

// Facts are the code of a reply's error, and what language models counted for it.
func Facts(reply []byte) (code string, usage Usage) {
	in := &fields{Reader: wire.NewReader(reply)}
	for n := in.mapping(); n > 0 && in.err == nil; n-- {
		switch key := in.str(); {
		case key == "error" && in.Kind() == wire.Map:
			code = in.codeOf()
		case key == "usage" && in.Kind() == wire.Map:
			usage = in.usage()
		default:
			in.skip(1)
		}
	}
	return code, usage
}

func (in *fields) codeOf() (code string) {
	for n := in.mapping(); n > 0 && in.err == nil; n-- {
		if key := in.str(); key == "code" && in.Kind() == wire.Str {
			code = in.str()
			continue
		}
		in.skip(1)
	}
	return code
}

// usage reads model -> counter -> number, and leaves out all that is not.
func (in *fields) usage() Usage {
	u := Usage{}
	for n := in.mapping(); n > 0 && in.err == nil; n-- {
		model := in.str()
		if in.Kind() != wire.Map {
			in.skip(1)
			continue
		}
		counters := map[string]int64{}
		for m := in.mapping(); m > 0 && in.err == nil; m-- {
			name := in.str()
			if in.Kind() != wire.Int {
				in.skip(1)
				continue
			}
			v, err := in.Int()
			in.keep(err)
			counters[name] = v
		}
		u[model] = counters
	}
	return u
}
