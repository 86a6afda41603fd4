//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const filters = true

// forbidden are the system calls that no worker needs: those that look into other processes, mount, change the machine, or share memory with
// the same user. Landlock keeps most of them harmless already; what is not there cannot have a fault.
var forbidden = []int{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT,
	unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SYSLOG, unix.SYS_SETHOSTNAME,
	unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP, unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMCTL, unix.SYS_MSGGET, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN,
	unix.SYS_MQ_UNLINK,
}

// absent are calls that would go round this filter. Libraries do without where the kernel has none.
var absent = []int{unix.SYS_CLONE3, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}

// newNamespaces are clone's flags for them.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

const (
	tiocsti    = 0x5412 // types into a terminal
	tioclinux  = 0x541c
	socketType = 0xf
	ofTheUser  = 2 // PRIO_USER
	ioOfUser   = 3 // IOPRIO_WHO_USER
)

// filter is the program that the kernel runs at every system call (struct sock_filter, one after the other).
func filter(l Level) []byte {
	p := &program{}
	p.begin()
	for _, nr := range append(forbidden, archForbidden...) {
		p.on(nr, deny)
	}
	for _, nr := range absent {
		p.on(nr, missingCall)
	}
	p.on(unix.SYS_CLONE, load(0), ifSet(newNamespaces, deny), allow)
	p.on(unix.SYS_IOCTL, load(1), ifEqual(tiocsti, deny), ifEqual(tioclinux, deny), allow)
	for _, nr := range []int{unix.SYS_PRLIMIT64, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR} {
		p.on(nr, load(0), ifEqual(0, allow), deny) // of itself only
	}
	p.on(unix.SYS_SETPRIORITY, load(0), ifEqual(ofTheUser, deny), load(1), ifEqual(0, allow), deny)
	p.on(unix.SYS_IOPRIO_SET, load(0), ifEqual(ioOfUser, deny), load(1), ifEqual(0, allow), deny)
	// A datagram socket of a pair could send to any socket file.
	p.on(unix.SYS_SOCKETPAIR, load(0), unless(unix.AF_UNIX, deny), load(1), masked(socketType), ifEqual(unix.SOCK_STREAM, allow), ifEqual(unix.SOCK_SEQPACKET, allow), deny)
	if l == Strict {
		for _, nr := range []int{unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4} {
			p.on(nr, deny)
		}
	} else {
		// No socket files: they lead to daemons that trust the user, container engines among them.
		p.on(unix.SYS_SOCKET, load(0), ifEqual(unix.AF_INET, allow), ifEqual(unix.AF_INET6, allow), ifEqual(unix.AF_NETLINK, allow), deny)
	}
	p.add(allow)
	return p.code
}

// instruction is one or more of the kernel's.
type instruction [][4]uint32 // code, jump if true, jump if false, operand

var (
	allow       = instruction{{unix.BPF_RET | unix.BPF_K, 0, 0, unix.SECCOMP_RET_ALLOW}}
	deny        = instruction{{unix.BPF_RET | unix.BPF_K, 0, 0, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}}
	missingCall = instruction{{unix.BPF_RET | unix.BPF_K, 0, 0, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}}
)

// word loads 32 bits of struct seccomp_data: the number of the call at 0, the architecture at 4, arguments of 64 bits from 16 on.
func word(offset uint32) instruction {
	return instruction{{unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, 0, 0, offset}}
}

// load takes the lower half of an argument: all that these calls look at.
func load(argument uint32) instruction { return word(16 + 8*argument) }

func masked(mask uint32) instruction {
	return instruction{{unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, 0, 0, mask}}
}

func ifEqual(value uint32, then instruction) instruction {
	return when(unix.BPF_JEQ, value, 0, 1, then)
}

func unless(value uint32, then instruction) instruction { return when(unix.BPF_JEQ, value, 1, 0, then) }

func ifSet(bits uint32, then instruction) instruction { return when(unix.BPF_JSET, bits, 0, 1, then) }

func when(test, value, yes, no uint32, then instruction) instruction {
	return append(instruction{{unix.BPF_JMP | unix.BPF_K | test, yes, no, value}}, then...)
}

type program struct{ code []byte }

// begin refuses system calls of other architectures and numberings, which would have other numbers.
func (p *program) begin() {
	p.add(word(4))
	p.add(unless(auditArch, missingCall))
	p.add(word(0))
	if foreignFrom > 0 {
		p.add(when(unix.BPF_JGE, foreignFrom, 0, 1, missingCall))
	}
}

// on adds what happens at one system call; the last of it decides.
func (p *program) on(nr int, all ...instruction) {
	var body instruction
	for _, one := range all {
		body = append(body, one...)
	}
	p.add(instruction{{unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, 0, uint32(len(body)), uint32(nr)}})
	p.add(body)
}

func (p *program) add(i instruction) {
	for _, one := range i {
		p.code = binary.NativeEndian.AppendUint16(p.code, uint16(one[0]))
		p.code = append(p.code, byte(one[1]), byte(one[2]))
		p.code = binary.NativeEndian.AppendUint32(p.code, one[3])
	}
}
