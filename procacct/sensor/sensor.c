/* The constructor and the destructor: one datagram at the start of a program and one at its end, to the daemon of the node.
 *
 * Nothing is kept open in between, nothing is waited for, nothing is written anywhere else, and no symbol is exported. Where it does not
 * act it does nothing at all: other C libraries, programs with privileges, BATCHACCT_SENSOR=0, a policy that says so.
 */
#include "sensor.h"
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

enum { PROGRAM_MOST = 4096, OPT_OUT_MOST = 512 };

/* Absent from musl, whose constructors are given no arguments either. */
extern const char *gnu_get_libc_version(void) __attribute__((weak));

static struct {
  bool active;
  uint32_t pid;
  uint32_t parent_pid;
  uint32_t weight;
  uint64_t start_ns;
  uint64_t dropped;
  struct policy policy;
  struct objects objects;
} sensor;
static atomic_flag ended = ATOMIC_FLAG_INIT;

static char policy_bytes[POLICY_MOST];
static unsigned char datagram_bytes[DATAGRAM_MOST] __attribute__((aligned(8)));

/* By the kernel, and not by a library that may have been preloaded to tell another time. */
static uint64_t now_ns(clockid_t clock) {
  struct timespec now = {0, 0};
  SYSTEM_CALL(SYS_clock_gettime, clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of a datagram: from `begin` up to `end`. */
struct part {
  size_t begin;
  size_t end;
};

static long send_bytes(const unsigned char *bytes, size_t length) {
  struct sockaddr_un address;
  const struct span path = sensor.policy.socket;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.at, path.length);
  const int fd = above_standard(SYSTEM_CALL(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd < 0)
    return fd;
  long sent = SYSTEM_CALL(SYS_sendto, fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, &address, (socklen_t)sizeof address);
  SYSTEM_CALL(SYS_close, fd);
  return sent;
}

/* `objects`: where its item is, of which a datagram that is too large for this machine is rid. */
static void send_datagram(struct datagram *datagram, struct part objects) {
  datagram_end(datagram);
  long sent = send_bytes(datagram->bytes, datagram->used);
  if (sent == -EMSGSIZE && objects.end > objects.begin) {
    memmove(datagram->bytes + objects.begin, datagram->bytes + objects.end, datagram->used - objects.end);
    datagram->used -= objects.end - objects.begin;
    datagram->header.flags |= FLAG_OBJECTS_CUT;
    datagram_end(datagram);
    sent = send_bytes(datagram->bytes, datagram->used);
  }
  if (sent < 0)
    sensor.dropped++;
}

static void fill_header(struct header *header) {
  header->pid = sensor.pid;
  header->parent_pid = sensor.parent_pid;
  header->user_id = (uint32_t)getauxval(AT_UID);
  header->group_id = (uint32_t)getauxval(AT_GID);
  header->weight = sensor.weight;
  header->realtime_ns = now_ns(CLOCK_REALTIME);
  header->monotonic_ns = now_ns(CLOCK_MONOTONIC);
  header->dropped = sensor.dropped;
}

/* Writes /proc/self/exe as the first item, and ends it with a NUL that is not part of it. */
static const char *add_program(struct datagram *datagram) {
  item_begin(datagram, TAG_PROGRAM, PROGRAM_MOST);
  char *at = (char *)datagram->bytes + datagram->used;
  long length = SYSTEM_CALL(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", at, (size_t)PROGRAM_MOST - 1);
  if (length <= 0) {  /* no /proc here: as it was given to execve */
    const char *given = (const char *)getauxval(AT_EXECFN);
    length = given ? (long)strnlen(given, PROGRAM_MOST - 1) : 0;
    memcpy(at, given ? given : "", (size_t)length);
  }
  at[length] = 0;
  datagram->used += (size_t)length;
  item_end(datagram);
  if (length % 4 == 0)
    datagram->bytes[datagram->used] = 0;
  return at;
}

static void add_value(struct datagram *datagram, enum tag tag, const void *bytes, size_t length) {
  item_begin(datagram, tag, length);
  item_add(datagram, bytes, length);
  item_end(datagram);
}

static const char *variable(char *const *environment, const char *name) {
  const char *value = NULL;
  for (; environment && *environment && !value; environment++)
    value = value_of(*environment, name);
  return value;
}

/* Whether there is the file by which a user is left out, if the site allows one; it has to be the user's own. */
static bool opted_out(char *const *environment) {
  struct span pattern = sensor.policy.opt_out;
  char path[OPT_OUT_MOST];
  size_t used = 0;
  uint32_t user = (uint32_t)getauxval(AT_UID);
  for (size_t i = 0; i < pattern.length; i++) {
    char number[11];
    char *digits = number + sizeof number - 1;
    const char *part = pattern.at + i;
    size_t length = 1;
    if (pattern.at[i] == '%' && i + 1 < pattern.length) {
      *digits = 0;
      for (uint32_t left = user; left || !*digits; left /= 10)
        *--digits = (char)('0' + left % 10);
      part = pattern.at[++i] == 'U' ? digits : variable(environment, "HOME");
      length = part ? strlen(part) : 0;
    }
    if (length == 0 || length >= sizeof path - used)
      return false;
    memcpy(path + used, part, length);
    used += length;
  }
  path[used] = 0;
  return used && is_file_of(path, user);
}

/* One of so many, told by a hash of what differs between processes; no source of random numbers is drawn from. */
static bool is_drawn(uint32_t one_of) {
  uint64_t hash = sensor.start_ns ^ ((uint64_t)sensor.pid << 32);
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53u;
  hash ^= hash >> 33;
  return one_of == 1 || (one_of && hash % one_of == 0);
}

static bool is_off(char *const *environment) {
  const char *set = variable(environment, "BATCHACCT_SENSOR");
  return set && strcmp(set, "0") == 0;
}

static void at_start(char *const *arguments, char *const *environment) {
  struct datagram datagram;
  if (policy_read(&sensor.policy, BATCHACCT_POLICY, policy_bytes, sizeof policy_bytes) == POLICY_REFUSED || !sensor.policy.active)
    return;
  if (sensor.policy.opt_out.length && opted_out(environment))
    return;
  datagram_begin(&datagram, datagram_bytes, sizeof datagram_bytes, KIND_START);
  const char *program = add_program(&datagram);
  sensor.weight = policy_one_of(&sensor.policy, program, arguments);
  if (sensor.weight == 0)
    return;
  sensor.pid = (uint32_t)SYSTEM_CALL(SYS_getpid, 0);
  sensor.parent_pid = (uint32_t)SYSTEM_CALL(SYS_getppid, 0);
  fill_header(&datagram.header);
  sensor.start_ns = datagram.header.start_monotonic_ns = datagram.header.monotonic_ns;
  if (!is_drawn(sensor.weight))
    return;
  add_arguments(&datagram, &sensor.policy, arguments);
  add_environment(&datagram, &sensor.policy, environment);
  struct part objects = {datagram.used, 0};
  look_at_objects(&sensor.objects, sensor.policy.objects ? &datagram : NULL, true);
  objects.end = datagram.used;
  if (sensor.objects.other_sensor)
    return;
  add_value(&datagram, TAG_BUILD_ID, sensor.objects.build_id, sensor.objects.build_id_length);
  add_value(&datagram, TAG_SIGNATURE, sensor.objects.signature, sensor.objects.signature_length);
  sensor.active = true;
  send_datagram(&datagram, objects);
}

static void add_usage(struct datagram *datagram) {
  struct rusage usage;
  if (SYSTEM_CALL(SYS_getrusage, RUSAGE_SELF, &usage) != 0)
    return;
  const uint64_t values[9] = {
      (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec,
      (uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec,
      (uint64_t)usage.ru_maxrss, (uint64_t)usage.ru_minflt,  (uint64_t)usage.ru_majflt, (uint64_t)usage.ru_inblock,
      (uint64_t)usage.ru_oublock, (uint64_t)usage.ru_nvcsw, (uint64_t)usage.ru_nivcsw,
  };
  add_value(datagram, TAG_USAGE, values, sizeof values);
}

static void at_end(void) {
  struct datagram datagram;
  datagram_begin(&datagram, datagram_bytes, sizeof datagram_bytes, KIND_END);
  fill_header(&datagram.header);
  datagram.header.start_monotonic_ns = sensor.start_ns;
  if (sensor.dropped)
    datagram.header.flags |= FLAG_START_DROPPED;
  add_usage(&datagram);
  struct part objects = {datagram.used, 0};
  if (sensor.policy.objects && objects_changed(&sensor.objects))
    look_at_objects(&sensor.objects, &datagram, false);
  objects.end = datagram.used;
  if (!sensor.objects.seals_itself)
    send_datagram(&datagram, objects);
}

__attribute__((constructor)) static void batchacct_sensor_start(int count, char **arguments, char **environment) {
  if (!gnu_get_libc_version)
    return;
  (void)count;
  if (!getauxval(AT_SECURE) && !is_off(environment) && !sensor.active)
    at_start(arguments, environment);
}

/* Not in a child that was forked and called no exec, and once, though several threads may call exit. */
__attribute__((destructor)) static void batchacct_sensor_end(void) {
  if (!sensor.active || sensor.objects.seals_itself)
    return;
  if ((uint32_t)SYSTEM_CALL(SYS_getpid, 0) == sensor.pid && !atomic_flag_test_and_set(&ended))
    at_end();
}
