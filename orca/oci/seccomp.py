"""The seccomp profile of a RUN: what Docker's default profile comes to for its default capabilities. Pure.

What is not named gets ENOSYS, so that programs fall back as on a kernel that never had the call;
privileged calls get EPERM.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

ENOSYS, EPERM = 38, 1
CLONE_NAMESPACES = 0x7E020000

_ALLOWED = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32
    chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr
    flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
    futex futex_time64 futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
    getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_get
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise
    membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep
    newfstatat open openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
    pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead
    readdir readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
    setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaction
    sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socket socketcall
    socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs syscall
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
    timer_settime timer_settime64 timerfd timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat
    utimensat_time64 utimes vfork wait4 waitid waitpid write writev
""".split()

_REFUSED = """
    acct add_key bdflush bpf clock_settime clock_settime64 delete_module fanotify_init finit_module fsconfig
    fsmount fsopen fspick get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl
    lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at
    open_by_handle_at open_tree perf_event_open pivot_root process_madvise query_module quotactl quotactl_fd
    reboot request_key set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday stime
    swapoff swapon syslog umount umount2 unshare userfaultfd vhangup
""".split()

# What Docker's profile lets a process that has a capability call besides.
_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at name_to_handle_at",
    "CAP_SYS_ADMIN": "bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
    "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# Per architecture (Go's name): seccomp's own name, and the calls that only it has.
_ARCHITECTURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "amd64": ("SCMP_ARCH_X86_64", ("arch_prctl", "modify_ldt")),
    "386": ("SCMP_ARCH_X86", ("modify_ldt",)),
    "arm64": ("SCMP_ARCH_AARCH64", ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint",
                                    "cacheflush", "set_tls")),
    "arm": ("SCMP_ARCH_ARM", ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint",
                              "cacheflush", "set_tls")),
    "ppc64le": ("SCMP_ARCH_PPC64LE", ("sync_file_range2",)),
    "s390x": ("SCMP_ARCH_S390X", ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr")),
    "riscv64": ("SCMP_ARCH_RISCV64", ()),
}  # fmt: skip
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def profile(architecture: str, capabilities: Collection[str] = ()) -> dict[str, Any] | None:
    """`linux.seccomp` of a runtime config, None for an architecture that seccomp is not known to have.

    `capabilities` open the calls that Docker's profile ties to them.

    One architecture only: three of them cost twice the time of a whole `runc run`.
    """
    if architecture not in _ARCHITECTURES:
        return None
    name, own = _ARCHITECTURES[architecture]
    opened = {call for held in capabilities for call in _BY_CAPABILITY.get(held, "").split()}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": [name],
        "syscalls": [
            {"names": [*_ALLOWED, *own, *sorted(opened)], "action": "SCMP_ACT_ALLOW"},
            {"names": [n for n in _REFUSED if n not in opened], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM},
            *(_personality(value) for value in _PERSONALITIES),
            _clone(architecture, free="CAP_SYS_ADMIN" in capabilities),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        ],
    }


def _personality(value: int) -> dict[str, Any]:
    args = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]
    return {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args}


def _clone(architecture: str, *, free: bool) -> dict[str, Any]:
    """clone(2), unless `free` without a flag that makes a namespace; s390x has its flags in the second argument."""
    if free:
        return {"names": ["clone"], "action": "SCMP_ACT_ALLOW"}
    index = 1 if architecture == "s390x" else 0
    args = [{"index": index, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    return {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": args}
