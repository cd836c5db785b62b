/* The preload sensor: what its parts share.
 *
 * Rules for all of it: no allocation, no stdio, no name service, no locks of its own, no recursion, no large object on the stack (the
 * destructor runs on whichever thread calls exit). System calls are made without libc (system.h), which leaves errno alone. Of libc
 * only dl_iterate_phdr and getauxval are called, which glibc 2.17 has, and musl.
 */
#ifndef BATCHACCT_SENSOR_H
#define BATCHACCT_SENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef BATCHACCT_POLICY
#define BATCHACCT_POLICY "/run/batchacct/procacct.policy"
#endif
#ifndef BATCHACCT_SOCKET
#define BATCHACCT_SOCKET "/run/batchacct/procacct.sensor"
#endif

enum {
  POLICY_MOST = 8192,           /* bytes of a policy file; procacct/policy.py holds the same number */
  DATAGRAM_MOST = 61440,        /* below the 65,507 of any datagram and far below net.core.wmem_default */
  ARGUMENTS_MOST = 8192,        /* bytes of all arguments */
  ENVIRONMENT_MOST = 8192,      /* bytes of all allowed variables */
  VARIABLE_MOST = 1024,         /* bytes of one variable */
  MODULES_MOST = 8192,          /* bytes of LOADEDMODULES */
  ARGUMENTS_MATCHED = 256,      /* how many arguments the pattern of a rule is held against */
  SOCKET_PATH_MOST = 107,       /* sun_path without its NUL */
};

/* A text that is not NUL-terminated. */
struct span {
  const char *at;
  size_t length;
};

/* ---- texts.c */
struct span span_of(const char *text);
bool span_is(struct span span, const char *text);
bool starts_with(const char *text, const char *prefix);
/* `*` stands for any bytes (slashes too), `?` for one. Linear in memory, at worst pattern times text in time. */
bool matches(struct span pattern, const char *text);
/* The value if `variable` is `name=value`, else NULL. */
const char *value_of(const char *variable, const char *name);
/* The next line of `*rest`, without its newline; false at the end. */
bool next_line(struct span *rest, struct span *line);
/* The next tab-separated field of `*rest`; false at the end. */
bool next_field(struct span *rest, struct span *field);
/* Decimal digits only, up to 9 of them; -1 for anything else. */
int32_t number_of(struct span span);

/* ---- datagram.c: version 1, decoded by procacct/datagrams.py */
enum kind { KIND_START = 1, KIND_END = 2 };
enum flag { FLAG_ARGUMENTS_CUT = 1, FLAG_OBJECTS_CUT = 2, FLAG_ENVIRONMENT_CUT = 4, FLAG_START_DROPPED = 8 };
enum tag {
  TAG_PROGRAM = 1,
  TAG_ARGUMENTS = 2,
  TAG_ENVIRONMENT = 3,
  TAG_OBJECTS = 4,
  TAG_BUILD_ID = 5,
  TAG_SIGNATURE = 6,
  TAG_USAGE = 7,
  TAG_JOB = 8,
  TAG_MODULES = 9,
};

struct header {
  uint32_t magic;
  uint8_t version;
  uint8_t kind;
  uint16_t flags;
  uint32_t length;
  uint32_t pid;
  uint32_t parent_pid;
  uint32_t user_id;
  uint32_t group_id;
  uint32_t weight;
  uint64_t realtime_ns;
  uint64_t monotonic_ns;
  uint64_t start_monotonic_ns;
  uint64_t dropped;
};

struct datagram {
  struct header header;
  unsigned char *bytes;
  size_t size;       /* of `bytes` */
  size_t used;
  size_t item;       /* where the open item begins */
  size_t item_most;  /* what its bytes may reach, from the beginning of `bytes` */
};

void datagram_begin(struct datagram *datagram, unsigned char *bytes, size_t size, enum kind kind);
/* `most`: bytes the item may have; less if less is left. */
void item_begin(struct datagram *datagram, enum tag tag, size_t most);
/* All of the bytes, or none and false if they do not fit. */
bool item_add(struct datagram *datagram, const void *bytes, size_t length);
/* As many as fit, and whether all did; one byte is always left for a NUL. */
bool item_add_text(struct datagram *datagram, const char *text, size_t length);
size_t item_length(const struct datagram *datagram);
/* An item without bytes is taken back. */
void item_end(struct datagram *datagram);
/* Writes the header; the bytes to send are `bytes` up to `used`. */
void datagram_end(struct datagram *datagram);

/* ---- policy.c: the file procacct/policy.py writes */
enum arguments { ARGUMENTS_NONE, ARGUMENTS_PROGRAM, ARGUMENTS_REDACTED, ARGUMENTS_ALL };

struct policy {
  enum arguments arguments;
  bool active;
  bool objects;
  bool has_secrets;
  bool has_environment;
  struct span socket;
  struct span opt_out;
  struct span lines;  /* its rules, allowed variables and names of secrets are read where they stand */
};

enum reading { POLICY_READ, POLICY_ABSENT, POLICY_REFUSED };

/* Reads `path` into `bytes`. An absent file leaves the built-in policy; one that is not root's, writable for others, too long, or
 * not of this form is refused: nobody acts on what anybody may have written. */
enum reading policy_read(struct policy *policy, const char *path, char *bytes, size_t size);
/* Whether there is a file of the path, no link, that the user owns. */
bool is_file_of(const char *path, uint32_t user);
/* A policy of a text in memory; false if it is not of this form. */
bool policy_parse(struct policy *policy, struct span text);
/* 0: not to be recorded; 1: to be; n: one of n is to be. The first rule that fits decides. */
uint32_t policy_one_of(const struct policy *policy, const char *program, char *const *arguments);
bool policy_allows(const struct policy *policy, const char *variable);
/* Whether `name` has in it one of the words that the policy adds to those of redaction.c. */
bool policy_secret(const struct policy *policy, const char *name, size_t length);

/* ---- redaction.c */
/* Argument by argument as the policy says, with NULs between. */
void add_arguments(struct datagram *datagram, const struct policy *policy, char *const *arguments);
/* A variable `NAME=value` without the secrets in it. False if it was cut. */
bool add_redacted_variable(struct datagram *datagram, const struct policy *policy, const char *variable);

/* ---- interpreters.c */
/* The index in `arguments` of the script that an interpreter runs, or 0. */
size_t script_index(char *const *arguments);

/* ---- environment.c */
/* Items for the batch job, the modules, and what the policy allows. */
void add_environment(struct datagram *datagram, const struct policy *policy, char *const *environment);

/* ---- objects.c */
struct objects {
  uint64_t loads;       /* how many objects were ever loaded, and unloaded, when they were looked at */
  uint64_t unloads;
  bool other_sensor;    /* an earlier object of the list is a sensor as well: that one acts */
  bool seals_itself;    /* libseccomp is loaded: a system call too many can be the end of such a program */
  unsigned char build_id[64];
  unsigned char build_id_length;
  char signature[64];
  unsigned char signature_length;
};

/* Looks at the loaded objects, and writes them as an item if `datagram` is not NULL. */
void look_at_objects(struct objects *objects, struct datagram *datagram, bool of_program);
/* Whether any was loaded or unloaded since. */
bool objects_changed(const struct objects *objects);

#endif
