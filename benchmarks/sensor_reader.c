/* reader SOCKET NAP_MS: in a daemon's place, takes datagrams with their credentials, all that are there, then sleeps so long (0: until the
 * next). Prints a line when it listens; ends with its standard input, and prints how many came. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **given) {
  static char bytes[1 << 17];
  char control[256];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const int yes = 1;
  if (count != 3)
    return 2;
  const int nap_ms = atoi(given[2]);
  strncpy(address.sun_path, given[1], sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  unlink(given[1]);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes))
    return 1;
  puts("listening");
  fflush(stdout);
  unsigned long came = 0;
  for (;;) {
    struct pollfd waited[2] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    poll(waited, nap_ms ? 1 : 2, nap_ms ? nap_ms : -1);
    while (recvmsg(fd, &message, 0) > 0) {
      came++;
      message.msg_controllen = sizeof control;
    }
    if (waited[0].revents)
      break;
  }
  printf("%lu\n", came);
  return 0;
}
