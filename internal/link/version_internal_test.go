package link

import (
	"strings"
	"testing"
)

func TestTheBrokersVersionIsChecked(t *testing.T) {
	for version, ok := range map[string]bool{
		"2.15.2": true, "2.11.0": true, "2.11.0-beta.1": true, "3.0.0": true, "": true, "unknown": true,
		"2.10.29": false, "2.2.0": false, "1.4.1": false,
	} {
		t.Run(version, func(t *testing.T) {
			err := checkVersion(version)
			if ok != (err == nil) {
				t.Fatalf("got %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), version) || !strings.Contains(err.Error(), "2.11")) {
				t.Errorf("must name both versions, got %q", err)
			}
		})
	}
}
