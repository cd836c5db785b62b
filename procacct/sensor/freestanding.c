/* The functions of string.h that the sensor uses, its own: a program's functions of these names are not called, the loader has fewer
 * names to look up, and a compiler that makes calls of them out of loops and copies finds them here. Hidden, as everything is. */
#include <stddef.h>
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t length) {
  unsigned char *at = to;
  const unsigned char *source = from;
  while (length--)
    *at++ = *source++;
  return to;
}

void *memmove(void *to, const void *from, size_t length) {
  unsigned char *at = to;
  const unsigned char *source = from;
  if (at < source)
    return memcpy(to, from, length);
  while (length--)
    at[length] = source[length];
  return to;
}

void *memset(void *to, int byte, size_t length) {
  unsigned char *at = to;
  while (length--)
    *at++ = (unsigned char)byte;
  return to;
}

int memcmp(const void *left, const void *right, size_t length) {
  const unsigned char *a = left, *b = right;
  for (; length; length--, a++, b++)
    if (*a != *b)
      return *a - *b;
  return 0;
}

void *memchr(const void *bytes, int byte, size_t length) {
  const unsigned char *at = bytes;
  for (; length; length--, at++)
    if (*at == (unsigned char)byte)
      return (void *)at;
  return NULL;
}

size_t strlen(const char *text) {
  const char *end = text;
  while (*end)
    end++;
  return (size_t)(end - text);
}

size_t strnlen(const char *text, size_t most) {
  size_t length = 0;
  while (length < most && text[length])
    length++;
  return length;
}

int strcmp(const char *left, const char *right) {
  while (*left && *left == *right) {
    left++;
    right++;
  }
  return (unsigned char)*left - (unsigned char)*right;
}

char *strchr(const char *text, int byte) {
  for (;; text++) {
    if (*text == (char)byte)
      return (char *)text;
    if (!*text)
      return NULL;
  }
}

char *strrchr(const char *text, int byte) {
  const char *last = NULL;
  for (; *text; text++)
    if (*text == (char)byte)
      last = text;
  return (char *)last;
}

size_t strspn(const char *text, const char *accepted) {
  size_t length = 0;
  while (text[length] && strchr(accepted, text[length]))
    length++;
  return length;
}

char *strstr(const char *text, const char *part) {
  const size_t length = strlen(part);
  for (; *text; text++)
    if (memcmp(text, part, length) == 0)
      return (char *)text;
  return NULL;
}
