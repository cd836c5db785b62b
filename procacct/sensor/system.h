/* System calls without libc: no function of the program's can come in between, no errno, no cancellation point.
 *
 * The result is that of the kernel: -1 to -4095 are errors. */
#ifndef BATCHACCT_SYSTEM_H
#define BATCHACCT_SYSTEM_H

#include <sys/syscall.h>

#define SYSTEM_CALL(number, ...) SYSTEM_CALL_OF(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYSTEM_CALL_OF(number, a, b, c, d, e, f, ...) system_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#if defined(__x86_64__) && defined(__LP64__)

static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = e;
  register long sixth __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
  register long first __asm__("x0") = a;
  register long second __asm__("x1") = b;
  register long third __asm__("x2") = c;
  register long fourth __asm__("x3") = d;
  register long fifth __asm__("x4") = e;
  register long sixth __asm__("x5") = f;
  register long name __asm__("x8") = number;
  __asm__ volatile("svc 0"
                   : "+r"(first)
                   : "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(sixth), "r"(name)
                   : "memory", "cc");
  return first;
}

#else

#include <errno.h>
#include <unistd.h>

static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
  const int before = errno;
  long result = syscall(number, a, b, c, d, e, f);
  if (result == -1)
    result = -errno;
  errno = before;
  return result;
}

#endif

#include <fcntl.h>

/* A descriptor, or an error of the kernel's, that is none of 0, 1 and 2: a program started with one of them closed, whose threads may be
 * using it, finds it closed. */
static inline int above_standard(long fd) {
  if (fd < 0 || fd > 2)
    return (int)fd;
  long moved = SYSTEM_CALL(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
  SYSTEM_CALL(SYS_close, fd);
  return (int)moved;
}

#endif
