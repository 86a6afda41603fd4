package echolm

import (
	"strings"
	"testing"
	"time"
)

func TestScriptsReadAndWriteTheSame(t *testing.T) {
	for _, text := range []string{
		"", "lat=200", "lat=200,status=429,ra=2,times=3", "status=402,code=insufficient_quota", "cut=accept", "lat=5,cut=body,times=1,name=a-B_9",
		"bad=1", "tdelay=20,fin=length,nousage=1", "cut=head",
	} {
		script, err := ParseScript(text)
		if err != nil || script.String() != text {
			t.Errorf("%q: got %q, %v", text, script.String(), err)
		}
	}
	got, err := ParseScript("nousage,status=0429,lat=1500")
	if err == nil {
		t.Errorf("status and nousage together: got %v", got)
	}
	got, err = ParseScript("bad,lat=1500,times=2")
	if want := (Script{Bad: true, Latency: 1500 * time.Millisecond, Times: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAScriptThatMakesNoSenseIsRefusedWithTheReason(t *testing.T) {
	for text, reason := range map[string]string{
		"latency=5":                        `unknown key "latency": expected one of lat,`,
		"lat=5,,":                          `unknown key ""`,
		"lat=1,lat=2":                      `"lat" appears twice`,
		"lat":                              "whole number from 0 to 600000",
		"lat=-1":                           "whole number",
		"lat=1.5":                          "whole number",
		"lat=600001":                       "whole number",
		"lat=99999999999999999":            "whole number",
		"status=200":                       "from 400 to 599",
		"status=x":                         "from 400 to 599",
		"ra=2":                             "add status",
		"code=x":                           "add status",
		"status=500,code=a b":              "letters",
		"cut=tail":                         "accept, head or body",
		"cut=body,status=500":              "status excludes",
		"bad=1,cut=body":                   "bad excludes",
		"bad=true":                         "expected bad=1",
		"status=500,fin=length":            "need an answer",
		"bad=1,nousage=1":                  "need an answer",
		"cut=head,tdelay=1":                "need an answer",
		"times=0":                          "from 1 to",
		"times=3":                          "times has no effect alone",
		"lat=1,name=x":                     "name has no effect without times",
		"fin=":                             "letters",
		"name=" + strings.Repeat("x", 300): "at most 256 bytes",
	} {
		if _, err := ParseScript(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: got %v, want %q", text, err, reason)
		}
	}
}

func FuzzScript(f *testing.F) {
	f.Add("lat=200,status=429,ra=2,times=3")
	f.Fuzz(func(t *testing.T, text string) {
		script, err := ParseScript(text)
		if err != nil {
			return
		}
		again, err := ParseScript(script.String())
		if err != nil || again != script {
			t.Fatalf("%q became %q: %+v, %v", text, script.String(), again, err)
		}
	})
}
