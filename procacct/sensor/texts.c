/* Texts: what string.h has not, or has with an allocation or a locale. */
#include "sensor.h"

#include <string.h>

struct span span_of(const char *text) {
  return (struct span){text, strlen(text)};
}

bool span_is(struct span span, const char *text) {
  size_t length = strlen(text);
  return span.length == length && memcmp(span.at, text, length) == 0;
}

bool starts_with(const char *text, const char *prefix) {
  while (*prefix)
    if (*text++ != *prefix++)
      return false;
  return true;
}

bool matches(struct span pattern, const char *text) {
  size_t at = 0;
  size_t after_star = 0;
  const char *resumed = NULL;
  while (*text) {
    if (at < pattern.length && pattern.at[at] == '*') {
      after_star = ++at;
      resumed = text;
    } else if (at < pattern.length && (pattern.at[at] == '?' || pattern.at[at] == *text)) {
      at++;
      text++;
    } else if (resumed) {
      at = after_star;
      text = ++resumed;
    } else {
      return false;
    }
  }
  while (at < pattern.length && pattern.at[at] == '*')
    at++;
  return at == pattern.length;
}

const char *value_of(const char *variable, const char *name) {
  size_t length = strlen(name);
  return starts_with(variable, name) && variable[length] == '=' ? variable + length + 1 : NULL;
}

static bool next_until(struct span *rest, struct span *part, char separator) {
  if (!rest->at)
    return false;
  const char *end = rest->length ? memchr(rest->at, separator, rest->length) : NULL;
  part->at = rest->at;
  part->length = end ? (size_t)(end - rest->at) : rest->length;
  rest->at = end ? end + 1 : NULL;
  rest->length = end ? rest->length - part->length - 1 : 0;
  return true;
}

bool next_line(struct span *rest, struct span *line) {
  return next_until(rest, line, '\n');
}

bool next_field(struct span *rest, struct span *field) {
  return next_until(rest, field, '\t');
}

int32_t number_of(struct span span) {
  int32_t number = 0;
  if (span.length == 0 || span.length > 9)
    return -1;
  for (size_t i = 0; i < span.length; i++) {
    if (span.at[i] < '0' || span.at[i] > '9')
      return -1;
    number = number * 10 + (span.at[i] - '0');
  }
  return number;
}
