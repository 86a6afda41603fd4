package pyproc

import (
	"flag"
	"strings"
	"testing"
	"time"
)

func TestOptionsMeanWhatTheirFlagsSay(t *testing.T) {
	parse := func(args ...string) Options {
		t.Helper()
		var o Options
		f := flag.NewFlagSet("test", flag.ContinueOnError)
		o.Flags(f)
		if err := f.Parse(args); err != nil {
			t.Fatal(err)
		}
		return o
	}
	var c Config
	o := parse()
	if err := o.Check(); err != nil || o != DefaultOptions() {
		t.Errorf("got %+v, %v; want the defaults", o, err)
	}
	o.Apply(&c)
	switch want := (Recycle{Jobs: 10_000, Age: time.Hour, Memory: 512 << 20, HardMemory: 1 << 30}); {
	case c.Recycle != want:
		t.Errorf("c.Recycle: got %v, want %v; defaults: got %+v", c.Recycle, want, c)
	case c.Recycle != want.WithDefaults():
		t.Errorf("c.Recycle: got %v, want %v; defaults: got %+v", c.Recycle, want.WithDefaults(), c)
	case c.Overflow != 2:
		t.Errorf("c.Overflow must be 2, got %v; defaults: got %+v", c.Overflow, c)
	case c.Basic:
		t.Errorf("must not hold: c.Basic; defaults: got %+v", c)
	case !c.Zygote:
		t.Errorf("must hold: c.Zygote; defaults: got %+v", c)
	case c.Spares != 1:
		t.Errorf("c.Spares must be 1, got %v; defaults: got %+v", c.Spares, c)
	}
	o = parse("--overflow=0", "--worker-module=DSPex.PythonBridge.PoolWorkerV2", "--start=spawn", "--recycle-jobs=0", "--recycle-age=0", "--recycle-mib=0", "--max-mib=0")
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	o.Apply(&c)
	switch r := c.Recycle.WithDefaults(); {
	case r != (Recycle{Jobs: -1, Age: -1, Memory: -1, HardMemory: -1}):
		t.Errorf("r must be (Recycle{Jobs: -1, Age: -1, Memory: -1, HardMemory: -1}), got %v; all off: got %+v", r, c)
	case r.Reason(1e6*time.Hour, 1<<60, 1<<60, 1) != "":
		t.Errorf(`r.Reason(1e6*time.Hour, 1<<60, 1<<60, 1) must be "", got %v; all off: got %+v`, r.Reason(1e6*time.Hour, 1<<60, 1<<60, 1), c)
	case c.Overflow != 0:
		t.Errorf("c.Overflow must be 0, got %v; all off: got %+v", c.Overflow, c)
	case !c.Basic:
		t.Errorf("must hold: c.Basic; all off: got %+v", c)
	case c.Zygote:
		t.Errorf("must not hold: c.Zygote; all off: got %+v", c)
	}
	if o := parse("--worker-module=DSPex.PythonBridge.PoolWorkerV2Enhanced"); o.Check() != nil || o.Basic() {
		t.Errorf("got %+v, want the original's name of enhanced", o)
	}
	for flags, want := range map[string]string{
		"--overflow=-1":         "overflow",
		"--overflow=257":        "overflow",
		"--worker-module=fast":  "enhanced or basic",
		"--start=fork":          "zygote or spawn",
		"--recycle-jobs=-1":     "recycle-jobs",
		"--recycle-age=59s":     "recycle-age",
		"--recycle-age=-1h":     "recycle-age",
		"--recycle-mib=-1":      "recycle-mib",
		"--recycle-mib=5000000": "recycle-mib",
		"--max-mib=-1":          "max-mib",
		"--max-mib=512":         "more than --recycle-mib",
		"--worker-module= --overflow=-5 --max-mib=1": "worker-module",
	} {
		if err := parse(strings.Fields(flags)...).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", flags, err, want)
		}
	}
}
