package daemon

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "concealing" {
		os.Exit(concealing())
	}
	os.Exit(m.Run())
}

// concealing is a program that conceals what it was given, prints what it can read of it, and ends with its input.
func concealing() int {
	if err := Conceal(); err != nil {
		fmt.Println(err)
		return 1
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Printf("%q %q %q %d %v\n", os.Getenv("NATS_PASSWORD"), os.Getenv(concealedIn), os.Args[2:], dumpable, err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

func TestWhatAProgramWasGivenIsSeenByNobodyElse(t *testing.T) {
	for _, c := range []struct {
		name       string
		env, args  []string
		want, seen string
	}{
		{"secrets", []string{"NATS_PASSWORD=s3cret", "OPENAI_API_KEY=s3cret", "HOME=/h", "LC_ALL=C"}, []string{"--server", "nats://u:s3cret@a:1,nats://b:2", "--url=nats://s3cret@c"},
			`"s3cret" "" ["--server" "nats://u:s3cret@a:1,nats://b:2" "--url=nats://s3cret@c"] 0 <nil>`, "HOME=/h"},
		{"no secrets", []string{"HOME=/h"}, []string{"--name", "a@b"}, `"" "" ["--name" "a@b"] 0 <nil>`, "HOME=/h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], append([]string{"concealing"}, c.args...)...)
			cmd.Env = c.env
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || strings.TrimSpace(said) != c.want {
				t.Errorf("it said %s, %v; want %s", said, err, c.want)
			}
			for _, file := range []string{"environ", "cmdline"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, file))
				if os.Geteuid() != 0 && file == "environ" {
					if err == nil {
						t.Error("environ can be read by another process of the same user")
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", file, err)
				}
				if strings.Contains(string(text), "s3cret") {
					t.Errorf("%s has the secret: %q", file, text)
				}
				if file == "environ" && !slices.Contains(strings.Split(string(text), "\x00"), c.seen) {
					t.Errorf("%s must have %s, got %q", file, c.seen, text)
				}
			}
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConcealedSurroundingsOfSomebodyElseAreRefused(t *testing.T) {
	for _, number := range []string{"x", "2", "-1"} {
		if err := recall(number); err == nil || !strings.Contains(err.Error(), concealedIn) {
			t.Errorf("%s: got %v", number, err)
		}
	}
	if _, err := decodeSurroundings([]byte(`{}`)); err == nil {
		t.Error("empty surroundings were taken")
	}
}
