package cli

import "testing"

func TestHelpIsWrappedBetweenWordsAndKeepsWhatIsIndented(t *testing.T) {
	text := "one two three four\nfive\n\n  an example that is longer than the width\nsix"
	want := "one two\nthree four\nfive\n\n  an example that is longer than the width\nsix"
	if got := Wrap(text, 10); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Wrap(text, 0); got != text {
		t.Errorf("without a width it became\n%s", got)
	}
}

func TestTheTextOfACommandIsWrappedBesideItsName(t *testing.T) {
	if got, want := commandLine("dev", 6, "Run everything in one process with workers", 34), "dev    Run everything in one\n         process with workers"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := commandLine("dev", 6, "Run everything in one process", 0), "dev    Run everything in one process"; got != want {
		t.Errorf("without a width it became\n%s", got)
	}
}

func TestColumnsThatMatterLeastAreLeftOut(t *testing.T) {
	c := Columns{Head: []string{"A", "B", "C"}, Least: []int{1, 0}, widths: []int{5, 5, 5}}
	for width, want := range map[int][]bool{0: {false, false, false}, 19: {false, false, false}, 18: {false, true, false}, 12: {false, true, false}, 11: {true, true, false}, 1: {true, true, false}} {
		c.fit(width)
		for i := range want {
			if c.out[i] != want[i] {
				t.Errorf("width %d, column %d: left out: %v", width, i, c.out[i])
			}
		}
	}
}
