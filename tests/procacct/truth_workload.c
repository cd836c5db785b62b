/* Programs of the truth comparison, one a mode: `workload MODE [ARGUMENT]`. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *sleep_long(void *unused) {
    (void)unused;
    for (;;) pause();
    return NULL;
}

static void *sleep_short(void *unused) {
    (void)unused;
    usleep(30000);
    return NULL;
}

static void *exec_true(void *unused) {
    (void)unused;
    char *argv[] = {"true", NULL};
    execve("/bin/true", argv, environ);
    return NULL;
}

static void *fork_child(void *unused) {
    (void)unused;
    pid_t child = fork();
    if (!child) _exit(9);
    waitpid(child, NULL, 0);
    return NULL;
}

static int chain(char *self, const char *left) {
    int number = atoi(left);
    char next[16];
    if (!number) return 17;
    snprintf(next, sizeof next, "%d", number - 1);
    char *argv[] = {self, "chain", next, NULL};
    execve("/proc/self/exe", argv, environ);
    return 126;
}

static int threads(void *(*body)(void *), int number, int join) {
    pthread_t made[8];
    for (int i = 0; i < number; i++) pthread_create(&made[i], NULL, body, NULL);
    for (int i = 0; join && i < number; i++) pthread_join(made[i], NULL);
    return 0;
}

static int make_daemon(void) {
    if (fork()) return 0;
    setsid();
    if (fork()) _exit(0);
    usleep(20000);
    _exit(3);
}

static int burn(const char *for_ms) {
    struct rusage used;
    do {
        getrusage(RUSAGE_SELF, &used);
    } while (used.ru_utime.tv_sec * 1000 + used.ru_utime.tv_usec / 1000 < atoi(for_ms));
    return 0;
}

static int with_vfork(void) {
    pid_t child = vfork();
    if (!child) {
        char *argv[] = {"true", NULL};
        execve("/bin/true", argv, environ);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    child = vfork();
    if (!child) _exit(5);
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const char *argument = argc > 2 ? argv[2] : "0";
    if (!strcmp(mode, "exit")) return atoi(argument);
    if (!strcmp(mode, "_exit")) _exit(atoi(argument));
    if (!strcmp(mode, "signal")) raise(atoi(argument));
    if (!strcmp(mode, "segv")) *(volatile int *)8 = 1;
    if (!strcmp(mode, "abort")) abort();
    if (!strcmp(mode, "chain")) return chain(argv[0], argument);
    if (!strcmp(mode, "threads")) return threads(sleep_short, 4, 1);
    if (!strcmp(mode, "threads-left")) return threads(sleep_long, 4, 0);
    if (!strcmp(mode, "thread-exec")) return threads(exec_true, 1, 1);
    if (!strcmp(mode, "thread-fork")) return threads(fork_child, 4, 1);
    if (!strcmp(mode, "leader-first")) {
        threads(sleep_short, 2, 0);
        pthread_exit(NULL);
    }
    if (!strcmp(mode, "vfork")) return with_vfork();
    if (!strcmp(mode, "daemon")) return make_daemon();
    if (!strcmp(mode, "burn")) return burn(argument);
    if (!strcmp(mode, "memory")) {
        size_t bytes = (size_t)atoi(argument) << 20;
        char *block = malloc(bytes);
        memset(block, 1, bytes);
        return block[bytes / 2] - 1;
    }
    return 2;
}
