package sandbox

import (
	"path/filepath"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/sandbox"
)

// lacks is why this machine cannot give a level, "" if it can.
func lacks(level string) string {
	if err := (sandbox.Options{Level: level}).Check(); err != nil {
		return err.Error()
	}
	return ""
}

// bothStarts runs a test with forked and with spawned workers.
func bothStarts(t *testing.T, test func(t *testing.T, c *crime, start string)) {
	for _, start := range []string{"zygote", "spawn"} {
		t.Run(start, func(t *testing.T) { test(t, plan(t), start) })
	}
}

func TestAtLevelNoneTheEnvironmentOfTheHostIsClean(t *testing.T) {
	bothStarts(t, func(t *testing.T, c *crime, start string) {
		c.host("--sandbox", "none", "--start", start).ready()
		c.loot(c.call("environments", dspex.Args{"secret": secret}), 1)
		if level := c.level(); level != "none" {
			t.Errorf("it says that the level is %q", level)
		}
	})
}

func TestAtLevelUserAWorkerReachesNeitherTheHostNorOtherWorkers(t *testing.T) {
	bothStarts(t, func(t *testing.T, c *crime, start string) {
		profiles := c.write("profiles.json", `{"profiles": {"m": {"provider": "openai", "model": "m", "api_key": "file:`+c.keyFile+`"}}}`)
		host := c.host("--sandbox", "user", "--start", start, "--lm", profiles)
		if why := lacks("user"); why != "" {
			host.refuses(why)
			return
		}
		host.ready()
		c.loot(c.call("steal", c.booty()), 30)
		switch found := c.call("works", nil); {
		case found["home"] != "own":
			t.Errorf(`found["home"] must be "own", got %v; what should work does not: %v`, found["home"], found)
		case found["child"] != -9.0:
			t.Errorf(`found["child"] must be -9.0, got %v; what should work does not: %v`, found["child"], found)
		case found["thread"] != true:
			t.Errorf(`found["thread"] must be true, got %v; what should work does not: %v`, found["thread"], found)
		case found["python"] != "ran":
			t.Errorf(`found["python"] must be "ran", got %v; what should work does not: %v`, found["python"], found)
		}
		if level := c.level(); level != "user" {
			t.Errorf("it says that the level is %q", level)
		}
	})
}

func (c *crime) booty() dspex.Args {
	return dspex.Args{"secret": secret, "key_file": c.keyFile, "module": filepath.Join(c.modules, "thief.py"), "place": c.dir, "socket_file": c.socket}
}

func TestThievesAreThieves(t *testing.T) {
	c := plan(t)
	c.host("--sandbox", "none").ready()
	taken := 0
	for name, got := range c.call("steal", c.booty()) {
		if text, _ := got.(string); len(text) > 5 && text[:5] == "TAKEN" {
			taken++
		} else {
			t.Logf("%s: %v", name, got)
		}
	}
	if taken < 8 {
		t.Errorf("without a sandbox only %d thefts succeed: the other tests show nothing", taken)
	}
}

func TestALevelThatIsNotToBeHadEndsTheStart(t *testing.T) {
	c := plan(t)
	if why := lacks("user"); why == "" {
		c.host("--sandbox-min", "user").ready()
		c.call("works", nil)
		if level := c.level(); level != "user" {
			t.Errorf("it says that the level is %q", level)
		}
	} else {
		c.host("--sandbox-min", "user").refuses("--sandbox-min must be a level that this machine supports, got user")
	}
	c.host("--sandbox", "none", "--sandbox-min", "user", "--name", "h2").refuses("--sandbox must be at least user, the level of --sandbox-min, got none")
	c.host("--sandbox", "some", "--name", "h2").refuses(`--sandbox must be none, user or strict, got "some" (or auto)`)
}

func TestSecretsInReachOfWorkersEndTheStart(t *testing.T) {
	c := plan(t)
	key := c.write(filepath.Join("modules", "key"), secret)
	profiles := c.write("profiles.json", `{"profiles": {"m": {"provider": "openai", "model": "m", "api_key": "file:`+key+`"}}}`)
	host := c.host("--sandbox", "user", "--lm", profiles)
	if why := lacks("user"); why != "" {
		host.refuses(why)
		return
	}
	host.refuses("holds a secret of the host and lies in " + c.modules)
}
