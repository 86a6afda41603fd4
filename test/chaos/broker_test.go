//go:build chaos

package chaos

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// brokerRole is the first argument of a process that is a broker.
const brokerRole = "broker"

// playBroker runs the shipped configuration as one server of a cluster, until nobody holds its standard input any more or it is
// killed. args: the configuration, the server's name, its directory, and the addresses of clients, monitoring, and routes, of the
// proxy that leads to its routes, and then those of the routes to the others.
func playBroker(args []string) error {
	config, name, dir, client, monitor, cluster, proxy, others := args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7:]
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	o.ServerName, o.StoreDir, o.NoSigs, o.LogFile = name, dir, true, filepath.Join(dir, "log")
	set := func(address string, host *string, port *int) {
		h, p, splits := net.SplitHostPort(address)
		n, isNumber := strconv.Atoi(p)
		err = firstOf(err, splits, isNumber)
		*host, *port = h, n
	}
	set(client, &o.Host, &o.Port)
	set(monitor, &o.HTTPHost, &o.HTTPPort)
	o.Cluster.Name, o.Cluster.Advertise = "chaos", proxy
	set(cluster, &o.Cluster.Host, &o.Cluster.Port)
	for _, address := range others {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: address})
	}
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	fmt.Println("ready", strings.Join(args[1:2], ""))
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
