package sandbox

import (
	"strings"
	"testing"
)

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Level: "some"}, `--sandbox must be none, user or strict, got "some" (or auto)`},
		{Options{Min: "auto"}, `--sandbox-min must be none, user or strict, got "auto"`},
		{Options{Level: "none", Min: "user"}, "--sandbox must be at least user, the level of --sandbox-min, got none"},
		{Options{Read: []string{"/not/there"}}, `--sandbox-read must be a file or directory that is there, got "/not/there"`},
		{Options{Write: []string{"options.go"}}, `--sandbox-write must be a directory that is there, got "options.go"`},
	} {
		if err := c.o.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.o, err, c.want)
		}
	}
}

func TestAutoIsUserWhereTheMachineCanGiveIt(t *testing.T) {
	box, err := Options{}.Open(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	lacks := missing(User)
	if (box.Level == User) != (lacks == nil) || (box.Lacks == nil) != (lacks == nil) || (len(box.Environ()) == 1) != (lacks == nil) {
		t.Errorf("got level %s, lacking %v; the machine lacks %v", box.Level, box.Lacks, lacks)
	}
	if err := (Options{Min: "user"}).Check(); (err == nil) != (lacks == nil) {
		t.Errorf("--sandbox-min user: got %v; the machine lacks %v", err, lacks)
	}
}
