package daemon

import "testing"

func TestASizeIsAWholeNumberWithItsUnit(t *testing.T) {
	for text, want := range map[string]Size{"1KiB": 1 << 10, "512MiB": 512 << 20, "4GiB": 4 << 30, "2TiB": 2 << 40} {
		var s Size
		if err := s.Set(text); err != nil || s != want || s.String() != text {
			t.Errorf("%s is %d, shown as %s, %v", text, int64(s), s.String(), err)
		}
	}
	for _, text := range []string{"", "4", "GiB", "-1GiB", "0MiB", "1.5GiB", "4GB", "4 GiB", "9999999999TiB"} {
		s := Size(7)
		if err := s.Set(text); err == nil || s != 7 {
			t.Errorf("%q is taken as %d", text, int64(s))
		}
	}
}
