/* The sensor's parts, with sanitizers, on what the tests give: `harness WHAT`, all of standard input being the data.
 *
 * redact POLICY-LENGTH    a policy, then arguments, each with a NUL: what of them leaves the process, as a datagram
 * environment POLICY-LENGTH  a policy, then variables, each with a NUL
 * script                  arguments: the index of the script
 * match                   a pattern and a text
 * policy                  a policy: what it says of /usr/bin/prog and its argument x
 *
 * Input is several such cases, each after its length in decimal and a newline; for each answer the same.
 */
#include "sensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char input[1 << 23];

/* The texts, each with a NUL, in memory of their own, so that a byte too far is seen. */
static char **texts_of(const char *at, size_t length, size_t *count) {
  char **texts = calloc(length + 1, sizeof *texts);
  *count = 0;
  while (length) {
    size_t size = strnlen(at, length);
    texts[*count] = malloc(size + 1);
    memcpy(texts[*count], at, size);
    texts[(*count)++][size] = 0;
    size += size < length;
    at += size;
    length -= size;
  }
  return texts;
}

static void answer(const void *bytes, size_t length) {
  printf("%zu\n", length);
  fwrite(bytes, 1, length, stdout);
  fflush(stdout);
}

static void with_policy(const char *what, const char *at, size_t length, size_t policy_length) {
  struct policy policy;
  struct datagram datagram;
  size_t count;
  char *text = malloc(policy_length + 1);
  unsigned char *bytes = malloc(DATAGRAM_MOST);
  memcpy(text, at, policy_length);
  if (!policy_parse(&policy, (struct span){text, policy_length})) {
    answer("refused", 7);
    return;
  }
  char **texts = texts_of(at + policy_length, length - policy_length, &count);
  datagram_begin(&datagram, bytes, DATAGRAM_MOST, KIND_START);
  if (strcmp(what, "redact") == 0)
    add_arguments(&datagram, &policy, texts);
  else
    add_environment(&datagram, &policy, texts);
  datagram_end(&datagram);
  answer(bytes, datagram.used);
  for (size_t i = 0; i < count; i++)
    free(texts[i]);
  free(texts);
  free(text);
  free(bytes);
}

static void one(const char *what, const char *at, size_t length, size_t policy_length) {
  char told[64];
  size_t count;
  if (policy_length) {
    with_policy(what, at, length, policy_length);
    return;
  }
  char **texts = texts_of(at, length, &count);
  if (strcmp(what, "script") == 0)
    snprintf(told, sizeof told, "%zu", count ? script_index(texts) : 0);
  else if (strcmp(what, "match") == 0)
    snprintf(told, sizeof told, "%d", count == 2 && matches(span_of(texts[0]), texts[1]));
  else {
    struct policy policy;
    char *arguments[] = {"prog", "x", NULL};
    char *text = malloc(length + 1);
    memcpy(text, at, length);
    if (policy_parse(&policy, (struct span){text, length}))
      snprintf(told, sizeof told, "%d %d %u %d", policy.active, policy.arguments, policy_one_of(&policy, "/usr/bin/prog", arguments),
               policy_allows(&policy, "NAME=value") + 2 * policy_secret(&policy, "NAME", 4));
    else
      snprintf(told, sizeof told, "refused");
    free(text);
  }
  answer(told, strlen(told));
  for (size_t i = 0; i < count; i++)
    free(texts[i]);
  free(texts);
}

int main(int count, char **given) {
  size_t length = 0, policy_length = 0;
  if (count != 2)
    return 2;
  while (scanf("%zu %zu", &policy_length, &length) == 2) {
    getchar();
    if (length >= sizeof input || fread(input, 1, length, stdin) != length)
      return 3;
    one(given[1], input, length, policy_length);
  }
  return 0;
}
