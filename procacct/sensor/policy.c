/* What the site wants recorded: a file of lines that procacct/policy.py writes, with a tab between the fields of a line.
 *
 *   batchacct-policy 1                        the first line
 *   active        yes|no
 *   socket        PATH
 *   arguments     none|program|redacted|all
 *   objects       yes|no
 *   opt-out       PATH                        %U is the user's number, %h the value of HOME
 *   rule          keep|skip|sample  N  PROGRAM-PATTERN  [ARGUMENT-PATTERN]
 *   environment   NAME-PATTERN
 *   secret        WORD                        lower case
 *   end                                       the last line
 */
#include "sensor.h"
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

static const char FIRST_LINE[] = "batchacct-policy 1";

/* The kernel's `struct stat` differs between machines, `struct statx` does not. */
struct statx_of_the_kernel {
  uint32_t mask, block_size;
  uint64_t attributes;
  uint32_t links, user_id, group_id;
  uint16_t mode, spare;
  uint64_t rest[28];
};
enum { STATX_MODE_AND_OWNER = 0x0b, OVERFLOW_USER = 65534 };

bool is_file_of(const char *path, uint32_t user) {
  struct statx_of_the_kernel found;
  return SYSTEM_CALL(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MODE_AND_OWNER, &found) == 0 && found.user_id == user;
}

static bool is_trusted(int fd) {
  struct statx_of_the_kernel found;
  if (SYSTEM_CALL(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MODE_AND_OWNER, &found) != 0)
    return false;
  if (!S_ISREG(found.mode) || found.mode & S_IWOTH)
    return false;
  uint32_t user = (uint32_t)getauxval(AT_UID);
#ifdef BATCHACCT_TRUST_READER
  if (found.user_id == user)
    return true;
#endif
  /* Within a user namespace that root has no number in, such as a rootless container's, root's files are the overflow user's. */
  return found.user_id == 0 || (found.user_id == OVERFLOW_USER && user != OVERFLOW_USER);
}

static bool yes_or_no(struct span value, bool *into) {
  *into = span_is(value, "yes");
  return *into || span_is(value, "no");
}

static bool arguments_of(struct span value, enum arguments *into) {
  static const char names[][9] = {"none", "program", "redacted", "all"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (span_is(value, names[i])) {
      *into = (enum arguments)i;
      return true;
    }
  return false;
}

static bool line_is_read(struct policy *policy, struct span name, struct span value) {
  if (span_is(name, "active"))
    return yes_or_no(value, &policy->active);
  if (span_is(name, "objects"))
    return yes_or_no(value, &policy->objects);
  if (span_is(name, "arguments"))
    return arguments_of(value, &policy->arguments);
  if (span_is(name, "socket")) {
    policy->socket = value;
    return value.length > 0 && value.length <= SOCKET_PATH_MOST;
  }
  if (span_is(name, "opt-out"))
    policy->opt_out = value;
  policy->has_secrets |= span_is(name, "secret");
  policy->has_environment |= span_is(name, "environment");
  return true;
}

static void policy_default(struct policy *policy) {
  memset(policy, 0, sizeof *policy);
  policy->arguments = ARGUMENTS_PROGRAM;
  policy->active = policy->objects = true;
  policy->socket = (struct span){BATCHACCT_SOCKET, sizeof BATCHACCT_SOCKET - 1};
}

bool policy_parse(struct policy *policy, struct span text) {
  struct span rest = text;
  struct span line;
  struct span name;
  policy_default(policy);
  if (!next_line(&rest, &line) || !span_is(line, FIRST_LINE))
    return false;
  policy->lines = rest;
  while (next_line(&rest, &line)) {
    if (span_is(line, "end"))
      return true;
    if (!next_field(&line, &name) || !line.at || !line_is_read(policy, name, line))
      return false;
  }
  return false;
}

enum reading policy_read(struct policy *policy, const char *path, char *bytes, size_t size) {
  policy_default(policy);
  const int fd = above_standard(SYSTEM_CALL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW));
  if (fd < 0)
    return fd == -ENOENT || fd == -ENOTDIR ? POLICY_ABSENT : POLICY_REFUSED;
  long length = is_trusted(fd) ? SYSTEM_CALL(SYS_read, fd, bytes, size) : -1;
  SYSTEM_CALL(SYS_close, fd);
  if (length > 0 && (size_t)length < size && policy_parse(policy, (struct span){bytes, (size_t)length}))
    return POLICY_READ;
  return POLICY_REFUSED;
}

/* The value of the next line of the name, among what is left of a policy's lines. */
static bool next_value(struct span *rest, const char *wanted, struct span *value) {
  struct span name;
  while (next_line(rest, value))
    if (next_field(value, &name) && value->at && span_is(name, wanted))
      return true;
  return false;
}

static bool any_matches(struct span pattern, char *const *arguments) {
  if (!arguments || !arguments[0])
    return false;
  for (size_t i = 1; arguments[i] && i <= ARGUMENTS_MATCHED; i++)
    if (matches(pattern, arguments[i]))
      return true;
  return false;
}

uint32_t policy_one_of(const struct policy *policy, const char *program, char *const *arguments) {
  struct span rest = policy->lines;
  struct span rule, action, number, pattern, argument;
  while (next_value(&rest, "rule", &rule)) {
    if (!next_field(&rule, &action) || !next_field(&rule, &number) || !next_field(&rule, &pattern))
      continue;
    if (!matches(pattern, program) || (next_field(&rule, &argument) && !any_matches(argument, arguments)))
      continue;
    if (span_is(action, "skip"))
      return 0;
    int32_t one_of = span_is(action, "sample") ? number_of(number) : 1;
    return one_of > 1 ? (uint32_t)one_of : 1;
  }
  return 1;
}

bool policy_allows(const struct policy *policy, const char *variable) {
  struct span rest = policy->lines;
  struct span pattern;
  const char *equals = policy->has_environment ? strchr(variable, '=') : NULL;
  if (!equals)
    return false;
  while (next_value(&rest, "environment", &pattern)) {
    struct span name = {variable, (size_t)(equals - variable)};
    bool whole = !memchr(pattern.at, '*', pattern.length);
    if (whole ? name.length == pattern.length && memcmp(name.at, pattern.at, name.length) == 0
              : name.length + 1 >= pattern.length && memcmp(name.at, pattern.at, pattern.length - 1) == 0)
      return true;
  }
  return false;
}

static char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

bool policy_secret(const struct policy *policy, const char *name, size_t length) {
  struct span rest = policy->lines;
  struct span word;
  while (policy->has_secrets && next_value(&rest, "secret", &word))
    for (size_t at = 0; word.length && at + word.length <= length; at++) {
      size_t same = 0;
      while (same < word.length && lower(name[at + same]) == word.at[same])
        same++;
      if (same == word.length)
        return true;
    }
  return false;
}
