/* Arguments and variables without the secrets in them.
 *
 * What is taken for a secret is taken generously: a word too many is replaced rather than one too few. Replaced by `***` are
 *   - what follows an option or a name that says so (--password X, --token=X, -p X, -pX, API_KEY=X, "Authorization: X", {"secret": "X"}),
 *     up to the end of the argument;
 *   - USER:PASSWORD after -u, -U, --user, --proxy-user; PASSWORD in USER:PASSWORD@HOST, with a scheme before it or without;
 *   - what looks like a token: JSON Web Tokens, the prefixes of known services, long runs of mixed letters and digits, long hex numbers.
 */
#include "sensor.h"

#include <string.h>

enum expected { NOTHING, SECRET, USER_AND_SECRET };
enum { TOKEN_SHORTEST = 20, LONG_RUN = 32, PREFIXED_SHORTEST = 12 };
/* How far it is looked ahead: what an argument of any length costs stays in proportion to its length. */
enum { LOOK_AHEAD = 2048 };

static const char HIDDEN[] = "***";

/* Anywhere in a name. */
static const char *const WORDS[] = {"passw",  "passphrase", "passcode",   "userpass",   "secret", "token",     "credential", "apikey",
                                    "accesskey", "privatekey", "bearer", "authorization", "cookie", "signature", "sessionid", NULL};
/* A part of a name, between its ends, what is no letter, and changes from small to capital letters; the first two also end a part. */
static const char *const PARTS[] = {"pass", "pwd", "key", "auth", "pw",  "pin", "sid",
                                    "jwt",  "sas", "sig", "otp",  "psk", "basic", NULL};
static const char *const PREFIXES[] = {"ghp_",  "gho_",  "ghu_",  "ghs_", "ghr_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "xoxa-",
                                       "xoxs-", "AKIA",  "ASIA",  "sk-",  "sk_",  "ya29",       "npm_",   "pypi-", "hvs",   "dckr_pat_",
                                       "eyJ",   NULL};

static bool is_small(char c) { return c >= 'a' && c <= 'z'; }
static bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return is_small(c) || is_capital(c); }
static bool is_of_name(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '-'; }
static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool is_quote(char c) { return c == '"' || c == '\'' || c == '`'; }
static char lower(char c) { return is_capital(c) ? (char)(c - 'A' + 'a') : c; }

static bool begins(const char *text, size_t length, const char *word) {
  size_t i = 0;
  while (word[i] && i < length && lower(text[i]) == word[i])
    i++;
  return !word[i];
}

static bool is_part(const char *part, size_t length) {
  for (const char *const *word = PARTS; *word; word++) {
    size_t size = strlen(*word);
    bool ends_it = word < PARTS + 2 && length > size && begins(part + length - size, size, *word);
    if (ends_it || (size == length && begins(part, length, *word)))
      return true;
  }
  return false;
}

static bool has_secret_part(const char *name, size_t length) {
  for (size_t at = 0; at < length;) {
    size_t end = at;
    while (end < length && is_letter(name[end]) && (end == at || !is_capital(name[end]) || is_capital(name[end - 1])))
      end++;
    if (is_part(name + at, end - at))
      return true;
    at = end > at ? end : at + 1;
  }
  return false;
}

static bool is_secret_name(const struct policy *policy, const char *name, size_t length) {
  for (size_t at = 0; at < length; at++)
    for (const char *const *word = WORDS; *word; word++)
      if (begins(name + at, length - at, *word))
        return true;
  return has_secret_part(name, length) || policy_secret(policy, name, length);
}

static bool hide(struct datagram *into) {
  return item_add_text(into, HIDDEN, sizeof HIDDEN - 1);
}

static bool is_mixed(const char *text, size_t length) {
  bool small = false, capital = false, digit = false;
  for (size_t i = 0; i < length; i++) {
    small |= is_small(text[i]);
    capital |= is_capital(text[i]);
    digit |= is_digit(text[i]);
  }
  return small && capital && digit;
}

static bool is_long_hex(const char *text, size_t length) {
  bool digit = false;
  for (size_t i = 0; i < length; i++) {
    char c = lower(text[i]);
    if (!is_digit(c) && !(c >= 'a' && c <= 'f') && c != '-')
      return false;
    digit |= is_digit(c);
  }
  return digit && length >= LONG_RUN;
}

static bool has_token_prefix(const char *text, size_t length) {
  const size_t option = length > 2 && text[0] == '-' ? 2 : 0;  /* a letter with its value behind it */
  for (const char *const *prefix = PREFIXES; *prefix; prefix++)
    if (length >= PREFIXED_SHORTEST && (starts_with(text, *prefix) || starts_with(text + option, *prefix)))
      return true;
  return false;
}

/* Letters, digits, and what base64 and JSON Web Tokens have besides. */
static size_t run_length(const char *text, bool with_dots, size_t most) {
  size_t length = 0;
  while (length < most && (is_of_name(text[length]) || text[length] == '+' || text[length] == '/' ||
                           (with_dots && (text[length] == '.' || text[length] == '~'))))
    length++;
  while (length < most && text[length] == '=')
    length++;
  return length;
}

/* How much of the text, which begins with a name of `name_length`, is a token; 0 if it is none. */
static size_t token_length(const char *text, size_t name_length, bool in_path) {
  if (has_token_prefix(text, name_length))
    return run_length(text, true, SIZE_MAX);
  bool alone = (name_length >= TOKEN_SHORTEST && is_mixed(text, name_length)) || is_long_hex(text, name_length);
  size_t run = in_path ? 0 : run_length(text, false, LOOK_AHEAD);
  if (run >= LONG_RUN && is_mixed(text, run))
    return run < LOOK_AHEAD ? run : run_length(text, false, SIZE_MAX);
  return alone ? name_length : 0;
}

/* Where a value begins after a name that ends at `text`: behind a colon, an equals sign or blanks, and quotes; NULL if none does. */
static const char *value_after(const char *text) {
  const char *at = text;
  bool separated = false;
  while (is_quote(*at) || is_blank(*at) || *at == '=' || *at == ':' || *at == '\\') {
    separated |= is_blank(*at) || *at == '=' || *at == ':';
    at++;
  }
  return separated && *at ? at : NULL;
}

/* Whether a port follows the colon at `at`, and no password. */
static bool is_port(const char *at) {
  do
    at++;
  while (is_digit(*at));
  return !*at || *at == '/' || *at == '?' || *at == '#' || is_blank(*at) || is_quote(*at);
}

/* The last `@` of USER:PASSWORD@HOST in the text, or NULL. A password may have a slash in it, which it should not. */
static const char *at_sign(const char *text, bool in_password) {
  const char *last = NULL;
  bool in_path = false;
  for (const char *at = text; at < text + LOOK_AHEAD && *at && !is_blank(*at) && !is_quote(*at); at++) {
    if (*at == '/' || *at == '?' || *at == '#') {
      in_path = true;
      if (last || !in_password)
        break;
    }
    in_password = in_password || (!in_path && *at == ':' && !is_port(at));
    if (*at == '@')
      last = at;
  }
  return last;
}

/* USER:***, of a text up to `end`; `***` alone where no user is told. */
static bool hide_password(struct datagram *into, const char *text, const char *end, const char *separators) {
  const char *at = text;
  while (at < end && !strchr(separators, *at))
    at++;
  bool fits = at == end || item_add_text(into, text, (size_t)(at - text) + 1);
  return fits && hide(into);
}

static bool begins_word(const char *text, const char *at) {
  return at == text || is_blank(at[-1]) || is_quote(at[-1]) || at[-1] == '=' || at[-1] == ',';
}

/* USER:PASSWORD@ without a scheme, at the beginning of a word. */
static const char *password_end(const char *at) {
  const char *colon = at;
  while (*colon && !strchr(":@/=,", *colon) && !is_blank(*colon) && !is_quote(*colon))
    colon++;
  return *colon == ':' && !starts_with(colon, "://") ? at_sign(colon + 1, true) : NULL;
}

/* One step of the scan: what is at `*at`, which is moved behind it. `*ended`: the rest of the text is hidden. False if it was cut. */
static bool add_piece(struct datagram *into, const struct policy *policy, const char *text, const char **at, bool *ended) {
  const char *end;
  if (starts_with(*at, "://") && (end = at_sign(*at + 3, false))) {
    bool fits = item_add_text(into, "://", 3) && hide_password(into, *at + 3, end, ":");
    *at = end;
    return fits;
  }
  if (begins_word(text, *at) && (end = password_end(*at))) {
    bool fits = hide_password(into, *at, end, ":");
    *at = end;
    return fits;
  }
  size_t length = 0;
  while (is_of_name((*at)[length]))
    length++;
  if (length == 0)
    return item_add_text(into, (*at)++, 1);
  const char *value = value_after(*at + length);
  if (value && is_secret_name(policy, *at, length)) {
    *ended = true;
    return item_add_text(into, *at, (size_t)(value - *at)) && hide(into);
  }
  bool in_path = *at > text && (at[0][-1] == '/' || at[0][-1] == '.' || at[0][-1] == '~');
  size_t hidden = token_length(*at, length, in_path);
  const char *from = *at;
  *at += hidden ? hidden : length;
  return hidden ? hide(into) : item_add_text(into, from, length);
}

static bool add_redacted(struct datagram *into, const struct policy *policy, const char *text) {
  bool ended = false;
  for (const char *at = text; *at && !ended;)
    if (!add_piece(into, policy, text, &at, &ended))
      return false;
  return true;
}

/* What the argument after this one is. */
static enum expected expected_after(const struct policy *policy, const char *argument) {
  static const char users[][13] = {"-u", "-U", "--user", "--proxy-user"};
  for (unsigned i = 0; i < sizeof users / sizeof *users; i++)
    if (strcmp(argument, users[i]) == 0)
      return USER_AND_SECRET;
  if (argument[0] == '-' && argument[1] && !argument[2])
    return strchr("pPwWak", argument[1]) ? SECRET : NOTHING;
  size_t end = strlen(argument);
  while (end && (argument[end - 1] == ':' || argument[end - 1] == '=' || is_blank(argument[end - 1]) || is_quote(argument[end - 1])))
    end--;
  size_t begin = end;
  while (begin && is_of_name(argument[begin - 1]))
    begin--;
  bool of_path = begin && (argument[begin - 1] == '/' || argument[begin - 1] == '.');
  return end > begin && !of_path && is_secret_name(policy, argument + begin, end - begin) ? SECRET : NOTHING;
}

static bool add_argument(struct datagram *into, const struct policy *policy, const char *argument, enum expected is) {
  if (is == SECRET)
    return hide(into);
  if (is == USER_AND_SECRET)
    return hide_password(into, argument, argument + strlen(argument), ":%");
  if (argument[0] == '-' && argument[1] == 'p' && argument[2])
    return item_add_text(into, argument, 2) && hide(into);
  if (argument[0] == '-' && (argument[1] == 'u' || argument[1] == 'U') && strchr(argument, ':'))
    return hide_password(into, argument, argument + strlen(argument), ":%");
  return add_redacted(into, policy, argument);
}

/* With its NUL, whether it is whole or not. */
static bool add_ended(struct datagram *into, const struct policy *policy, const char *argument) {
  bool whole = add_redacted(into, policy, argument);
  return item_add(into, "", 1) && whole;
}

static bool add_program_and_script(struct datagram *into, const struct policy *policy, char *const *arguments) {
  size_t script = script_index(arguments);
  return add_ended(into, policy, arguments[0]) && (!script || add_ended(into, policy, arguments[script]));
}

void add_arguments(struct datagram *datagram, const struct policy *policy, char *const *arguments) {
  enum expected is = NOTHING;
  bool whole = true;
  if (policy->arguments == ARGUMENTS_NONE || !arguments || !arguments[0])
    return;
  item_begin(datagram, TAG_ARGUMENTS, ARGUMENTS_MOST);
  if (policy->arguments == ARGUMENTS_PROGRAM)
    whole = add_program_and_script(datagram, policy, arguments);
  for (size_t i = 0; policy->arguments > ARGUMENTS_PROGRAM && arguments[i] && whole; i++) {
    if (policy->arguments == ARGUMENTS_ALL) {
      whole = item_add_text(datagram, arguments[i], strlen(arguments[i]));
    } else {
      whole = i ? add_argument(datagram, policy, arguments[i], is) : add_redacted(datagram, policy, arguments[0]);
      is = i ? expected_after(policy, arguments[i]) : NOTHING;
    }
    whole &= item_add(datagram, "", 1);
  }
  item_end(datagram);
  if (!whole)
    datagram->header.flags |= FLAG_ARGUMENTS_CUT;
}

bool add_redacted_variable(struct datagram *datagram, const struct policy *policy, const char *variable) {
  const char *equals = strchr(variable, '=');
  size_t length = (size_t)(equals - variable);
  if (is_secret_name(policy, variable, length))
    return item_add_text(datagram, variable, length + 1) && hide(datagram);
  return item_add_text(datagram, variable, length + 1) && add_redacted(datagram, policy, equals + 1);
}
