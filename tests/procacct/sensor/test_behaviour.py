# ruff: noqa: E501 - programs and scripts, most of which are one line
"""Programs with the sensor and without it, whatever the daemon is doing: what others see of them is the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.procacct.sensor.sensed import Done, Sensor, bound, compiled, is_root, need, need_program

HEAD = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
extern char **environ;
"""

SCRIPTS = {
    "coreutils": "seq 1 500 | sort -rn | head -3; ls -1 /etc | wc -l; printf '%s\\n' a b | tac | md5sum; false; echo $?; stat -c %A /etc/passwd",
    "pipelines": "yes | head -2; echo ${PIPESTATUS[@]}; (exit 7) | cat; echo ${PIPESTATUS[@]}; cat <(echo a) <(echo b) | wc -c",
    "statuses": 'for n in 0 1 2 126 200 255; do bash -c "exit $n"; echo $?; done; /nonexistent/x; echo $?; /etc/passwd; echo $?',
    "signals": 'for s in TERM KILL HUP INT USR1 SEGV ABRT; do bash -c "kill -$s \\$\\$; sleep 1"; echo $?; done 2>/dev/null',
    "traps": "trap 'echo bye' EXIT; trap 'echo got' USR1; kill -USR1 $$; (trap 'echo inner' EXIT; true); sh -c 'trap \"echo t\" 0'",
    "background": "for i in 1 2 3 4; do (sleep 0.0$i; exit $i) & p[$i]=$!; done; for i in 1 2 3 4; do wait ${p[$i]}; echo $?; done",
    "descriptors": "exec 5</etc/passwd; ls -1 /proc/self/fd; readlink /proc/self/fd/5; exec 5<&-; ls /proc/self/fd | wc -l",
    "closed descriptors": "for f in '0<&-' '1>&-' '2>&-' '0<&- 1>&- 2>&-'; do eval \"/bin/ls -1 /proc/self/fd $f\"; echo $?; done",
    "environment": "env | grep -v -e ^LD_PRELOAD -e ^_= | sort; env -i /usr/bin/env; env -i A=b /usr/bin/env; env -u HOME /bin/true; echo $?",
    "limits": "ulimit -n 4; /bin/true; echo $?; ulimit -n 3; cat /etc/hostname >/dev/null 2>&1; echo $?",
    "small stack": "ulimit -s 200; /bin/true; echo $?; ls /etc/passwd; python3 -c 'print(1)'; ulimit -s 64; /bin/true; echo $?",
    "limits seen": "ulimit -a | grep -v -e pending; umask; pwd; trap; ps -o sid= -o stat= -p $$ | wc -w",
    "exec chain": 'exec bash -c \'exec sh -c "exec env X=1 bash -c \\"exec printf %s chained\\""\'',
    "missing programs": "nosuchprogram; echo $?; ./nosuch; echo $?; env nosuchprogram; echo $?",
    "huge argv": "/bin/echo $(seq 1 20000) | md5sum; printf '%100000s' x > big; /bin/echo \"$(cat big)\" | wc -c",
    "huge environment": 'for i in {1..300}; do export V$i="$(printf %3000s x)"; done; env | grep -v ^LD_PRELOAD | wc -c; SLURM_JOB_ID=$V1 /bin/true; echo $?',
    "Python": """cat > p.py <<'END'
import subprocess, os, sys, signal, errno, ctypes, threading
print(subprocess.run(['sh', '-c', 'exit 5']).returncode, subprocess.run(['false']).returncode)
print(subprocess.check_output(['echo', 'x'], preexec_fn=os.setsid), os.system('exit 3'), os.popen('echo p').read())
print(subprocess.run(['cat'], input=b'in', stdout=subprocess.PIPE, close_fds=False).stdout)
print(len(os.listdir('/proc/self/task')), threading.active_count())
print([signal.getsignal(s) for s in (1, 2, 13, 15, 17)], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
pid = os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 9'], os.environ); print(os.waitpid(pid, 0)[1] >> 8)
sys.exit(11)
END
python3 p.py; echo $?""",
    "multiprocessing": """cat > m.py <<'END'
import multiprocessing as mp, sys
def f(x): return x * x
if __name__ == '__main__':
    for how in ('fork', 'spawn', 'forkserver'):
        with mp.get_context(how).Pool(2) as pool:
            print(how, pool.map(f, range(5)))
        p = mp.get_context(how).Process(target=sys.exit, args=(4,)); p.start(); p.join(); print(p.exitcode)
END
python3 m.py""",
    "make": """mkdir -p b; cd b; for i in 1 2 3 4 5 6; do echo "int f$i(void) { return $i; }" > f$i.c; done
echo 'int f1(void); int main(void) { return f1(); }' > main.c
printf 'OBJECTS = main.o f1.o f2.o f3.o f4.o f5.o f6.o\\nall: p\\np: $(OBJECTS)\\n\\tgcc -o $@ $^\\n%%.o: %%.c\\n\\tgcc -c -o $@ $<\\n' > Makefile
make -s -j 4; ./p; echo $?; md5sum *.o p; make -j2 all; make -s nosuch; echo $?""",
    "git": """export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git config --global user.email a@b; git config --global user.name c; git config --global init.defaultBranch main
git init -q r; cd r; echo x > f; git add f; git commit -qm one; git log --format='%H %s'; git checkout -q -b two; git gc -q; git fsck; git nosuch; echo $?
git clone -q . ../s; git -C ../s log --oneline | wc -l""",
    "perl": "perl -e 'print `echo a`; system(\"exit 3\"); print $?>>8, qq(\\n); fork or exit 4; wait; print $?>>8; die qq(dead\\n)'; echo $?",
    "other C library's shell": "busybox sh -c 'echo x' 2>/dev/null || true; ldd --version | head -1",
    "setuid": "su -s /bin/sh nobody -c 'id -un' 2>&1; passwd -S root 2>&1 | cut -d' ' -f1; echo $?",
    "tracing": "strace -f -o /dev/null -e trace=none bash -c 'true; exit 3'; echo $?",
    "debugger": "gdb -nx -batch -ex run -ex 'print $_exitcode' --args /bin/false 2>/dev/null | tail -1",
    "loader run by hand": "$(ls /lib64/ld-linux* /lib/ld-linux* 2>/dev/null | head -1) /bin/echo by hand; echo $?",
    "daemon away from its terminal": "setsid bash -c '(exec <&- >&- 2>&-; sleep 0.01; exit 3) & wait $!; echo $?'",
    "many at once": "for i in {1..100}; do /bin/true & done; wait; echo done; for i in {1..100}; do (:) & done; wait; echo done",
}
NEEDS = {"git": "git", "perl": "perl", "make": "gcc", "tracing": "strace", "debugger": "gdb", "Python": "python3"}

PROGRAMS = {
    "descriptors, threads and timers": """int main(void) { for (int i = 0; i < 256; i++) if (fcntl(i, F_GETFD) >= 0) printf("%d ", i);
        char c[4096]; int f = open("/proc/self/status", O_RDONLY); c[read(f, c, 4095)] = 0; puts(strstr(c, "Threads:") ? strndup(strstr(c, "Threads:"), 10) : "");
        printf("%d %u\\n", f, alarm(0)); return 0; }""",
    "environment": 'int main(void) { for (char **e = environ; *e; e++) if (strncmp(*e, "LD_PRELOAD", 10)) puts(*e); return 0; }',
    "closes all descriptors": "int main(void) { for (int i = 0; i < 1024; i++) close(i); return 42; }",
    "forks in threads": """static void *work(void *n) { for (int i = 0; i < 20; i++) { int s; pid_t p = fork(); if (!p) exit(i);
        waitpid(p, &s, 0); if (WEXITSTATUS(s) != i) abort(); } return n; }
      int main(void) { pthread_t t[4]; for (int i = 0; i < 4; i++) pthread_create(t + i, 0, work, 0);
        for (int i = 0; i < 4; i++) pthread_join(t[i], 0); puts("all"); return 3; }""",
    "exits in a thread with a small stack": """static void *work(void *n) { exit(21); }
      int main(void) { pthread_attr_t a; pthread_t t; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 16384);
        pthread_create(&t, &a, work, 0); pause(); }""",
    "exits while threads work": """static void *work(void *n) { for (;;) free(malloc(100)); }
      int main(void) { pthread_t t; for (int i = 0; i < 4; i++) pthread_create(&t, 0, work, 0); usleep(1000); puts("x"); return 5; }""",
    "vfork": """int main(void) { int s; pid_t p = vfork(); if (!p) { execl("/bin/sh", "sh", "-c", "exit 6", NULL); _exit(1); }
        waitpid(p, &s, 0); p = vfork(); if (!p) _exit(7); int r; waitpid(p, &r, 0); printf("%d %d\\n", WEXITSTATUS(s), WEXITSTATUS(r)); return 8; }""",
    "posix_spawn": """int main(void) { pid_t p; int s; char *a[] = {"sh", "-c", "echo $0; exit 9", NULL};
        posix_spawn(&p, "/bin/sh", 0, 0, a, environ); waitpid(p, &s, 0); return WEXITSTATUS(s); }""",
    "no argument at all": """int main(int n, char **a) { if (n == 2) { char *none[] = {NULL}, *set[] = {getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") - 11 : NULL, NULL};
        execve("/proc/self/exe", none, set); return 1; } printf("%d\\n", n > 0 && a[0] && *a[0]); return 12; }""",
    "ends by _exit": 'int main(void) { printf("lost"); _exit(4); }',
    "ends by quick_exit": 'static void f(void) { write(1, "q", 1); } int main(void) { at_quick_exit(f); quick_exit(6); }',
    "calls exit in a handler of exit": "static void f(void) { exit(9); } int main(void) { atexit(f); return 1; }",
    "exits in a signal handler": "static void f(int s) { exit(19); } int main(void) { signal(SIGUSR1, f); raise(SIGUSR1); return 1; }",
    "aborts": "int main(void) { abort(); }",
    "crashes": "int main(void) { *(volatile int *)0 = 1; }",
    "crashes in a destructor": "static __attribute__((destructor)) void f(void) { raise(SIGSEGV); } int main(void) { return 0; }",
    "errno": 'static int at_start; __attribute__((constructor)) static void f(void) { at_start = errno; } int main(void) { printf("%d %d\\n", at_start, errno); return 0; }',
    "dispositions": """int main(void) { struct sigaction a; sigset_t m; sigprocmask(0, 0, &m);
        for (int s = 1; s < 64; s++) if (!sigaction(s, 0, &a)) printf("%d:%d:%d ", s, a.sa_handler == SIG_DFL, sigismember(&m, s)); return 0; }""",
    "symbols of the sensor's names": """int matches, span_of, item_add, decode, look_at_objects, add_arguments, policy_read, sensor, ended;
      long syscall(long n, ...) { abort(); } size_t regcomp(void) { abort(); } void item_begin(void) { abort(); }
      int main(void) { puts("own"); return matches + sensor; }""",
    "own malloc, used before it is ready": """static int ready; void *malloc(size_t n) { static char pool[1 << 20]; static size_t used; if (!ready) abort();
        used += (n + 15) & ~15; return pool + used - ((n + 15) & ~15); } void free(void *p) {}
      __attribute__((constructor(101))) static void f(void) { ready = 1; } int main(void) { ready = 1; return write(1, malloc(1) ? "m" : "n", 1) != 1; }""",
    "strict seccomp": 'int main(void) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); write(1, "s", 1); syscall(SYS_exit, 3); }',
    "strict seccomp, ends by exit": "int main(void) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); exit(3); }",
    "waits for any child": """int main(void) { printf("%d %d ", (int)waitpid(-1, 0, WNOHANG), errno == ECHILD); signal(SIGCHLD, SIG_IGN);
        pid_t p = fork(); if (!p) exit(3); printf("%d\\n", (int)wait(0)); return 0; }""",
    "a thread at the end of another": 'static void *f(void *n) { usleep(3000); puts("t"); exit(2); } int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_exit(0); }',
    "two threads call exit": """static void *f(void *n) { exit(5); } int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); usleep(1); _exit(5); }""",
    "cancelled": "static void *f(void *n) { pthread_cancel(pthread_self()); exit(31); } int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pause(); }",
}

BUILDS = {
    "address sanitizer": ("gcc", "-fsanitize=address"),
    "address sanitizer within": ("gcc", "-fsanitize=address", "-static-libasan"),
    "undefined behaviour sanitizer": ("gcc", "-fsanitize=undefined"),
    "thread sanitizer": ("gcc", "-fsanitize=thread"),
    "leak sanitizer": ("gcc", "-fsanitize=leak"),
    "static": ("gcc", "-static"),
    "static and movable": ("gcc", "-static-pie"),
    "profiled": ("gcc", "-pg"),
    "musl": ("musl-gcc",),
    "musl, static": ("musl-gcc", "-static"),
    "32 bits, without a library for them": ("gcc", "-m32"),
}
UNSEEN = {"static", "static and movable", "musl", "musl, static", "32 bits, without a library for them"}


@contextmanager
def _hanging(sensor: Sensor) -> Iterator[None]:
    """A daemon that has stopped: its queue is full."""
    with bound(sensor.socket, queue=1), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
        filling.setblocking(False)
        with pytest.raises(BlockingIOError):
            while filling.sendto(b"x", str(sensor.socket)):
                pass
        yield


@contextmanager
def _left_over(sensor: Sensor) -> Iterator[None]:
    """The socket of a daemon that was killed: a file, and nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        sensor.socket.unlink(missing_ok=True)
        left.bind(str(sensor.socket))
    yield
    sensor.socket.unlink()


@contextmanager
def _not_a_socket(sensor: Sensor) -> Iterator[None]:
    sensor.socket.unlink(missing_ok=True)
    sensor.socket.write_bytes(b"kept")
    yield
    assert sensor.socket.read_bytes() == b"kept"
    sensor.socket.unlink()


DAEMONS: dict[str, Callable[[Sensor], AbstractContextManager[object]]] = {
    "listening": lambda sensor: sensor.listening(),
    "hanging": _hanging,
    "away": lambda sensor: nullcontext(),
    "killed": _left_over,
    "not a socket": _not_a_socket,
}


def _compare(sensor: Sensor, tmp_path: Path, command: list[str | Path], environment: dict[str, str] | None = None) -> Done:
    """The same from the same command, without the sensor and with it under every daemon; what it was, at the end."""

    def ran(on: bool) -> Done:
        folder = tmp_path / "work"
        folder.mkdir()
        try:
            return sensor.run(command, on=on, environment=environment, cwd=folder)
        finally:
            shutil.rmtree(folder)

    plain = ran(on=False)
    for name, daemon in DAEMONS.items():
        with daemon(sensor):
            assert ran(on=True) == plain, name
    return plain


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(sensor: Sensor, tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        need_program(NEEDS[name])
    sensor.set_policy(arguments="redacted", environment=("*",))
    _compare(sensor, tmp_path, ["/bin/bash", "-c", SCRIPTS[name]])
    with sensor.listening() as received:
        sensor.run(["/bin/bash", "-c", SCRIPTS[name]], cwd=tmp_path)
    assert received, "the sensor did not act at all"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(sensor: Sensor, programs: Path, tmp_path: Path, name: str) -> None:
    program = compiled(programs, name.replace(" ", "-").replace("'", ""), HEAD + PROGRAMS[name])
    _compare(sensor, tmp_path, [program, "x"])
    with sensor.listening():
        sensor.run([program, "x"])
    assert sensor.of(program.name)


@pytest.mark.parametrize("name", BUILDS)
def test_builds(sensor: Sensor, programs: Path, tmp_path: Path, name: str) -> None:
    compiler, *options = BUILDS[name]
    need_program(compiler)
    source = '#include <stdio.h>\n#include <stdlib.h>\nint main(int n, char **a) { char *p = malloc(10); printf("%p" + 2, p); free(p); return 17; }'
    program = compiled(programs, f"built-{name.replace(' ', '-')}", source, *options, compiler=compiler)
    if name.startswith("32"):
        with sensor.listening() as received:
            done = sensor.run([program])
        assert (done.status, done.output) == (17, b"")
        assert b"cannot be preloaded" in done.errors, "why there is $LIB"
        assert received == []
        return
    assert _compare(sensor, tmp_path, [program]).status == 17
    with sensor.listening():
        sensor.run([program])
    assert bool(sensor.of(program.name)) == (name not in UNSEEN)


@pytest.mark.parametrize("option", ["address", "undefined"])
def test_what_a_sanitizer_finds_is_still_found(sensor: Sensor, programs: Path, tmp_path: Path, option: str) -> None:
    source = "int main(int n, char **a) { volatile char b[4]; volatile int i = 2147483647; i += n; return b[n + 4]; }"
    program = compiled(programs, f"faulty-{option}", source, f"-fsanitize={option}", "-fno-sanitize-recover=all")
    options = {"ASAN_OPTIONS": "log_path=report:exitcode=44", "UBSAN_OPTIONS": "log_path=report"}
    done = _compare(sensor, tmp_path, [program], options)
    assert done.status != 0


def test_a_preloaded_library_beside(sensor: Sensor, programs: Path, tmp_path: Path) -> None:
    source = """#include <unistd.h>\nstatic int n; pid_t getpid(void) { n++; return 1; } long syscall(long a, ...) { n++; return -1; }
    __attribute__((destructor)) static void f(void) { char c = '0' + n; write(1, &c, 1); }"""
    other = compiled(programs, "libother.so", source, "-shared", "-fPIC")
    program = compiled(programs, "trivial", "int main(void) { return 0; }")
    assert _compare(sensor, tmp_path, [program], {"LD_PRELOAD": str(other)}).output == b"0"
    with sensor.listening() as received:
        sensor.run([program], environment={"LD_PRELOAD": str(other)})
    assert [got.datagram.pid == got.pid for got in received] == [True, True]


def test_memory_of_a_small_limit(sensor: Sensor, programs: Path) -> None:
    """What a program can do without in its address space, with the sensor and without: the sensor takes less than 256 KiB of it."""
    program = compiled(programs, "trivial", "int main(void) { return 0; }")

    def least(*, on: bool) -> int:
        low, high = 0, 65536
        while high - low > 16:
            middle = (low + high) // 2
            done = sensor.run(
                ["/bin/sh", "-c", f"ulimit -v {middle}; LD_PRELOAD={sensor.preload if on else ''} exec {program}"], on=False
            )
            low, high = (low, middle) if done == (0, b"", b"") else (middle, high)
        return high

    assert least(on=True) - least(on=False) < 256


def test_chroot_without_the_library_and_without_proc(sensor: Sensor, programs: Path, tmp_path: Path) -> None:
    need("root", is_root)
    program = compiled(programs, "trivial", "int main(void) { return 0; }")
    root = tmp_path / "root"
    libraries = [Path("/lib/x86_64-linux-gnu/libc.so.6"), Path("/lib64/ld-linux-x86-64.so.2")]
    need("a library of x86-64", libraries[0].exists())
    for file in (*libraries, program):
        copy = root / file.relative_to("/") if file != program else root / "trivial"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    chroot = ["chroot", str(root), "/trivial"]
    with sensor.listening() as received:
        done = sensor.run(chroot)
    assert done.status == 0
    assert b"cannot be preloaded" in done.errors, "the loader says so, and nobody else could keep it from that"
    assert len(received) == 1, "chroot itself, which had no end"
    inside = root / sensor.library.relative_to("/")
    for folder in (sensor.library.parent, sensor.folder):
        (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
    shutil.copy(sensor.library, inside)
    (inside.parent / "libasan.so").symlink_to(".")
    with sensor.listening():
        assert sensor.run(chroot) == (0, b"", b"")


def test_setuid_programs_are_left_alone(sensor: Sensor, programs: Path) -> None:
    need("root", is_root)
    program = compiled(
        programs, "privileged", "#include <unistd.h>\nint main(void) { return geteuid() == 0 && getuid() == 65534 ? 33 : 1; }"
    )
    program.chmod(0o4755)
    command = ["/usr/bin/setpriv", "--reuid=65534", "--clear-groups", str(program)]
    plain = sensor.run(command, on=False)
    with sensor.listening():
        done = sensor.run(command)
    assert done == plain == (33, b"", b"")
    assert not sensor.of("privileged")


def test_a_read_only_system(sensor: Sensor, tmp_path: Path) -> None:
    need("root", is_root)
    mount = (
        "mount --bind / /mnt 2>/dev/null; mount -o remount,bind,ro / ; exec /bin/bash -c 'echo x; touch /tmp/written 2>&1; exit 3'"
    )
    command = ["/usr/bin/unshare", "--mount", "/bin/bash", "-c", mount]
    plain = sensor.run(command, on=False)
    assert plain.status == 3 and sensor.run(command) == plain


def test_no_network_no_pids_no_users(sensor: Sensor) -> None:
    """In namespaces of its own; the socket is reached by its path, and the kernel translates the pid."""
    need("root", is_root)
    command = ["/usr/bin/unshare", "--net", "--pid", "--ipc", "--uts", "--fork", "/bin/bash", "-c", "echo $$; exit 5"]
    with sensor.listening() as received:
        assert sensor.run(command) == sensor.run(command, on=False) == (5, b"1\n", b"")
    (start,) = sensor.of("bash")
    assert start.pid == 1 and 1 not in {got.pid for got in received}


def test_a_rootless_container_sees_root_as_nobody(sensor: Sensor) -> None:
    need("root", is_root)
    command = [
        "/usr/bin/setpriv",
        "--reuid=12345",
        "--regid=12345",
        "--clear-groups",
        "/usr/bin/unshare",
        "--map-root-user",
        "/bin/echo",
        "x",
    ]
    done = sensor.run(command, on=False)
    if done.status:
        pytest.skip("users may make no namespaces here")
    with sensor.listening():
        assert sensor.run(command) == done
    assert sensor.of("echo")


def test_a_daemon_that_is_stopped_for_real(sensor: Sensor, tmp_path: Path) -> None:
    """SIGSTOP, as a debugger or an overloaded node does it; after SIGCONT what was sent meanwhile is there, up to the queue."""
    with sensor.listening(queue=20):
        pass
    with bound(sensor.socket, queue=20) as taking:
        child = os.fork()
        if child == 0:
            while taking.recv(1 << 17) != b"end":
                pass
            os._exit(0)
        os.kill(child, signal.SIGSTOP)
        try:
            done = sensor.run(["/bin/bash", "-c", "for i in {1..40}; do /bin/true; done; echo done"])
            assert done == (0, b"done\n", b"")
        finally:
            os.kill(child, signal.SIGCONT)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"end", str(sensor.socket))
        assert os.waitpid(child, 0)[1] == 0


def test_sealed_programs_are_told_at_their_start_alone(sensor: Sensor, programs: Path, tmp_path: Path) -> None:
    """A program that forbids itself system calls would be ended by the sensor's; that it uses libseccomp tells."""
    fake = compiled(
        programs, "libseccomp.so.2", "int seccomp_init(void) { return 1; }", "-shared", "-fPIC", "-Wl,-soname,libseccomp.so.2"
    )
    seal = """int seccomp_init(void); int main(void) { struct sock_filter f[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_exit_group, 0, 1), BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET, SECCOMP_RET_KILL_PROCESS) }; struct sock_fprog p = {4, f}; seccomp_init();
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p); return 27; }"""
    program = compiled(programs, "sealed", HEAD + seal, str(fake), f"-Wl,-rpath,{programs}")
    assert _compare(sensor, tmp_path, [program]).status == 27
    with sensor.listening() as received:
        sensor.run([program])
    assert len(received) == len(sensor.of("sealed")) == 1
