/* fork_storm RATE SECONDS [PROGRAM]: forks so many children a second, each of which ends at once, or executes the program; prints how
 * many it forked, and how long that took in seconds. RATE 0: as many as can be. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* In a function of its own: what vfork shares with the child are the parent's variables. */
__attribute__((noinline)) static pid_t spawn(char **program) {
  pid_t child = program ? vfork() : fork();
  if (child == 0) {
    if (program)
      execv(program[0], program);
    _exit(program ? 127 : 0);
  }
  return child;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: fork_storm RATE SECONDS [PROGRAM]\n");
    return 2;
  }
  double rate = atof(argv[1]), seconds = atof(argv[2]), began = now();
  long forked = 0;
  for (double at = began; at - began < seconds; at = now()) {
    long due = rate > 0 ? (long)((at - began) * rate) - forked : 1;
    for (; due > 0; due--) {
      if (spawn(argc > 3 ? argv + 3 : NULL) > 0)
        forked++;
      while (waitpid(-1, NULL, WNOHANG) > 0) {
      }
    }
    if (rate > 0) {
      struct timespec pause = {0, 1000000};
      nanosleep(&pause, NULL);
    }
  }
  double took = now() - began;
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
  }
  printf("%ld %.3f\n", forked, took);
  return 0;
}
