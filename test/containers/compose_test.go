package containers

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
)

// compose runs docker-compose.yml as it is; what run.sh and the test choose comes in by its variables.
type compose struct {
	t   *testing.T
	env []string
}

func (c *compose) run(args ...string) {
	c.t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", os.Getenv("DSPEX_TEST_COMPOSE") + ` --project-directory ../.. --file ../../docker-compose.yml --project-name dspextest "$@"`, "-"}, args...)...)
	cmd.Env = c.env
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("compose %s: %v\n%s", args[0], err, out)
	}
}

// healthy returns when Docker's own checks have found each service healthy.
func (c *compose) healthy(ctx context.Context, since time.Time, services ...string) {
	c.t.Helper()
	waiting := map[string]bool{}
	for _, s := range services {
		waiting[s] = true
	}
	ctx, cancel := context.WithTimeout(ctx, startup)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "events", "--since", since.Format(time.RFC3339), "--filter", "event=health_status",
		"--filter", "label=com.docker.compose.project=dspextest", "--format", `{{index .Actor.Attributes "com.docker.compose.service"}} {{.Action}}`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); len(waiting) > 0 && lines.Scan(); {
		service, status, _ := strings.Cut(lines.Text(), " ")
		if strings.HasSuffix(status, ": healthy") {
			delete(waiting, service)
		}
	}
	cancel()
	_ = cmd.Wait() // it was ended, whatever its status
	if len(waiting) > 0 {
		c.run("logs")
		c.t.Fatalf("not healthy within %v: %v", startup, waiting)
	}
}

func TestComposeServesAPredict(t *testing.T) {
	port := freePort(t)
	c := &compose{t: t, env: append(os.Environ(), "DSPEX_IMAGE=dspex-test", "DSPEX_ENGINE=stub", "DSPEX_WORKERS=1", "DSPEX_PORT="+port)}
	for name, value := range passwords() {
		c.env = append(c.env, name+"="+value)
	}
	c.run("config", "--quiet")
	t.Cleanup(func() { c.run("down", "--volumes", "--timeout", "10") })
	began := time.Now()
	c.run("up", "--detach")
	c.healthy(t.Context(), began, "nats", "dispatcher", "host-1", "host-2")

	ctx, cancel := context.WithTimeout(t.Context(), startup)
	defer cancel()
	client, err := dspex.Connect(ctx, "nats://127.0.0.1:"+port, dspex.WithNATS(nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := client.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
	if err != nil || !strings.Contains(string(r.Result), "capital of France") {
		t.Errorf("%s, %v", r.Result, err)
	}
	h, err := client.Health(ctx)
	if err != nil || h.Status != "healthy" || h.Stats.PoolSize != 2 {
		t.Errorf("%+v, %v", h, err)
	}
}

// freePort is a port that is free now: docker-compose.yml needs a number.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
