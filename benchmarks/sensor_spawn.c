/* spawn COUNT PROGRAM [NAME=VALUE]: starts the program so often, one after the other, and prints for each the microseconds by the clock,
 * and of processor time. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double used_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int count, char **given) {
  if (count < 3)
    return 2;
  const int starts = atoi(given[1]);
  char *arguments[] = {given[2], NULL};
  double began = now_us();
  for (int i = 0; i < starts; i++) {
    pid_t child;
    int status;
    if (posix_spawn(&child, given[2], NULL, NULL, arguments, given + 3) || waitpid(child, &status, 0) != child || status)
      return 1;
  }
  printf("%.3f %.3f\n", (now_us() - began) / starts, used_us() / starts);
  return 0;
}
