package pyproc

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// zygoteMain is a zygote in Go. It starts the workers as new processes, which is all the same to the host. ZYGOTE_MODE sets how it
// behaves, MODE how its workers do.
func zygoteMain() {
	conn, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		panic(err)
	}
	z := &zygoteSpeaker{mode: os.Getenv("ZYGOTE_MODE"), socket: conn.(*net.UnixConn), spawner: proc.NewSpawner(), workers: map[int]*os.Process{}}
	go z.spawner.Run()
	if z.mode == "silent" {
		z.serve()
	}
	z.send(frame.Hello, 0, (&speaker{nonce: os.Getenv("DSPEX_NONCE"), mode: z.mode}).hello().AppendBody(nil))
	z.serve()
}

type zygoteSpeaker struct {
	mode    string
	socket  *net.UnixConn
	spawner *proc.Spawner
	workers map[int]*os.Process
}

func (z *zygoteSpeaker) send(t frame.Type, id uint64, body []byte) {
	z.socket.Write(append(frame.AppendHeader(nil, t, id, len(body)), body...))
}

func (z *zygoteSpeaker) serve() {
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oobn, _, _, err := z.socket.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			for pid := range z.workers {
				syscall.Kill(-pid, syscall.SIGKILL)
			}
			os.Exit(0)
		}
		f, err := frame.Read(bufio.NewReader(bytes.NewReader(buf[:n])), 0)
		if err != nil {
			panic(err)
		}
		z.on(f, oob[:oobn])
	}
}

func (z *zygoteSpeaker) on(f frame.Frame, oob []byte) {
	switch f.Type {
	case frame.Init:
		switch z.mode {
		case "init error":
			z.send(frame.Error, 0, frame.ErrorBody{Category: "initialization", Code: "import_failed", Message: "no module named dspy"}.AppendBody(nil))
			os.Exit(3)
		case "die on init":
			fmt.Fprintln(os.Stderr, "out of luck")
			os.Exit(4)
		case "never ready":
			return
		}
		z.send(frame.Ready, 0, frame.ReadyBody{Slots: 4, Engine: "stub"}.AppendBody(nil))
	case frame.Fork:
		b, _ := frame.ParseFork(f.Body)
		fds := descriptors(oob)
		switch z.mode {
		case "refuse":
			z.send(frame.Error, f.ID, frame.ErrorBody{Category: "initialization", Code: "fork_refused", Message: "the zygote has 2 threads"}.AppendBody(nil))
		case "deaf":
		case "garbage":
			z.socket.Write([]byte("this is no frame"))
		default:
			z.fork(f.ID, b.Nonce, fds)
		}
		for _, file := range fds {
			file.Close()
		}
	case frame.Reap:
		b, _ := frame.ParseReap(f.Body)
		z.workers[int(b.PID)].Wait()
		delete(z.workers, int(b.PID))
	}
}

func (z *zygoteSpeaker) fork(id uint64, nonce string, fds []*os.File) {
	null, _ := os.Open(os.DevNull)
	defer null.Close()
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "DSPEX_ZYGOTE=") || strings.HasPrefix(e, "DSPEX_NONCE=")
	})
	env = append(env, "DSPEX_NONCE="+nonce)
	z.spawner.Do(func() {
		process, err := os.StartProcess(os.Args[0], os.Args, &os.ProcAttr{
			Env: env, Files: []*os.File{null, fds[2], fds[3], fds[0], fds[1]}, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err != nil {
			panic(err)
		}
		z.workers[process.Pid] = process
		z.send(frame.Forked, id, frame.ForkedBody{PID: uint64(process.Pid)}.AppendBody(nil))
		go z.tell(process.Pid)
	})
}

// tell waits for the end of a worker, reports how it ended, and leaves it unreaped.
func (z *zygoteSpeaker) tell(pid int) {
	var info unix.Siginfo
	unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	const cldExited, statusAt = 1, 24 // si_code and the place of si_status where pointers have 64 bits
	status := *(*int32)(unsafe.Add(unsafe.Pointer(&info), statusAt))
	b := frame.ExitedBody{PID: uint64(pid)}
	if info.Code == cldExited {
		b.Code = uint64(status)
	} else {
		b.Signal = uint64(status)
	}
	z.send(frame.Exited, 0, b.AppendBody(nil))
}

// descriptors takes the descriptors out of a message.
func descriptors(oob []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		panic(err)
	}
	var all []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			panic(err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			all = append(all, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return all
}
