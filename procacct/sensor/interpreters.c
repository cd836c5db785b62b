/* Which argument of an interpreter is its script. Code given on the command line is none, and in doubt there is none. */
#include "sensor.h"

#include <string.h>

struct interpreter {
  const char *name;      /* of the program, and what digits and dots may follow it */
  const char *code;      /* letters of options after which no script comes: code, or a module's name */
  const char *values;    /* letters of options that have a value, in the same argument or the next */
};

static const struct interpreter INTERPRETERS[] = {
    {"sh", "c", "oO"},      {"bash", "c", "oO"},    {"dash", "c", "oO"},     {"ash", "c", "oO"},   {"ksh", "c", "oO"},
    {"zsh", "c", "oO"},     {"csh", "c", ""},       {"tcsh", "c", ""},       {"python", "cm", "WXQ"}, {"pypy", "cm", "WXQ"},
    {"perl", "eE", "IMm"},  {"ruby", "e", "rICEK"}, {"Rscript", "e", ""},    {"node", "ep", "r"},  {"lua", "e", "l"},
    {"tclsh", "", ""},      {"php", "rBRE", "dcz"},
};
/* Long options that have no value. */
static const char *const FLAGS[] = {"--login",  "--noprofile", "--norc",     "--posix",        "--restricted",
                                    "--verbose", "--vanilla",  "--no-save", "--no-environ", "--slave", NULL};

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static const struct interpreter *interpreter_of(const char *program) {
  const char *name = last_part(program);
  name += *name == '-';
  for (size_t i = 0; i < sizeof INTERPRETERS / sizeof *INTERPRETERS; i++) {
    size_t length = strlen(INTERPRETERS[i].name);
    if (starts_with(name, INTERPRETERS[i].name) && strspn(name + length, "0123456789.") == strlen(name + length))
      return &INTERPRETERS[i];
  }
  return NULL;
}

static bool is_flag(const char *option) {
  for (const char *const *flag = FLAGS; *flag; flag++)
    if (strcmp(option, *flag) == 0)
      return true;
  return false;
}

/* Arguments that short options in one take, themselves included: 1, or 2 with a value; 0 if no script comes. */
static size_t taken(const struct interpreter *interpreter, const char *options) {
  for (const char *letter = options + 1; *letter; letter++) {
    if (strchr(interpreter->code, *letter))
      return 0;
    if (strchr(interpreter->values, *letter))
      return letter[1] ? 1 : 2;
  }
  return 1;
}

size_t script_index(char *const *arguments) {
  const struct interpreter *interpreter = interpreter_of(arguments[0]);
  size_t at = 1;
  if (!interpreter)
    return 0;
  while (arguments[at]) {
    const char *argument = arguments[at];
    if ((argument[0] != '-' && argument[0] != '+') || !argument[1])
      return argument[0] == '-' || !argument[0] ? 0 : at;
    if (strcmp(argument, "--") == 0)
      return arguments[at + 1] ? at + 1 : 0;
    if (argument[0] == '-' && argument[1] == '-' && !is_flag(argument))
      return 0;
    size_t step = argument[1] == '-' ? 1 : taken(interpreter, argument);
    if (step == 0 || (step == 2 && !arguments[at + 1]))
      return 0;
    at += step;
  }
  return 0;
}
