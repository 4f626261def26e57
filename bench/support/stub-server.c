/*
 * The servers of the balancer's bench: answers every POST on each of its ports with the same JSON, at as little cost as can be, so
 * that what is measured is in front of it. A GET, which asks how it is, gets an answer without a body.
 *
 *     stub-server ANSWER_BYTES PORT...
 *
 * Knows no more of HTTP/1.1 than the bench needs: Content-Length, keep-alive, one request at a time per connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
  int fd, is_listener, waits_to_send;
  char head[16384];
  size_t head_bytes, body_left;
  int in_body;
  /* Up to here its answer goes. */
  const char *answer_end;
  size_t unsent;
};

static char *answer;
static size_t answer_bytes;
static const char well[] = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
static char scratch[1 << 18];

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void make_answer(size_t body_bytes) {
  static const char begin[] = "{\"choices\":[{\"text\":\"", end[] = "\"}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}";
  size_t frame = sizeof begin - 1 + sizeof end - 1;
  size_t text = body_bytes > frame ? body_bytes - frame : 0;
  answer = malloc(body_bytes + 512);
  answer_bytes = sprintf(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", frame + text, begin);
  memset(answer + answer_bytes, 'x', text);
  answer_bytes += text;
  memcpy(answer + answer_bytes, end, sizeof end - 1);
  answer_bytes += sizeof end - 1;
}

static void wait_for(int poll, struct connection *c, int to_send) {
  if (c->waits_to_send == to_send) return;
  c->waits_to_send = to_send;
  struct epoll_event event = {.events = to_send ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Returns 0 when the connection is over. */
static int send_rest(int poll, struct connection *c) {
  while (c->unsent > 0) {
    ssize_t n = send(c->fd, c->answer_end - c->unsent, c->unsent, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN) return 0;
      wait_for(poll, c, 1);
      return 1;
    }
    c->unsent -= n;
  }
  wait_for(poll, c, 0);
  return 1;
}

/* Takes what is in head[] apart once it is whole; what follows it counts as body. */
static int take_head(struct connection *c) {
  char *end = memmem(c->head, c->head_bytes, "\r\n\r\n", 4);
  if (end == NULL) return c->head_bytes < sizeof c->head;
  size_t beyond = c->head_bytes - (end + 4 - c->head);
  int is_get = strncmp(c->head, "GET ", 4) == 0;
  c->unsent = is_get ? sizeof well - 1 : answer_bytes;
  c->answer_end = is_get ? well + sizeof well - 1 : answer + answer_bytes;
  *end = 0;
  size_t length = 0;
  for (char *line = c->head; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncasecmp(line, "content-length:", 15) == 0) length = strtoul(line + 15, NULL, 10);
  }
  c->in_body = 1;
  c->body_left = length > beyond ? length - beyond : 0;
  c->head_bytes = 0;
  return 1;
}

static int serve(int poll, struct connection *c) {
  if (!c->in_body && c->unsent > 0) return send_rest(poll, c);
  for (;;) {
    char *into = c->in_body ? scratch : c->head + c->head_bytes;
    size_t room = c->in_body ? sizeof scratch : sizeof c->head - c->head_bytes;
    ssize_t n = recv(c->fd, into, room, 0);
    if (n == 0) return 0;
    if (n < 0) return errno == EAGAIN;
    if (c->in_body) {
      c->body_left -= (size_t)n < c->body_left ? (size_t)n : c->body_left;
    } else {
      c->head_bytes += n;
      if (!take_head(c)) return 0;
    }
    if (c->in_body && c->body_left == 0) {
      c->in_body = 0;
      return send_rest(poll, c);
    }
    if ((size_t)n < room) return 1;
  }
}

static void watch(int poll, int fd, int is_listener) {
  struct connection *c = calloc(1, sizeof *c);
  c->fd = fd;
  c->is_listener = is_listener;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void listen_on(int poll, int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  watch(poll, fd, 1);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  make_answer(strtoul(argv[1], NULL, 10));
  int poll = epoll_create1(0);
  for (int n = 2; n < argc; n++) listen_on(poll, atoi(argv[n]));
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poll, events, 256, -1);
    for (int n = 0; n < count; n++) {
      struct connection *c = events[n].data.ptr;
      if (c->is_listener) {
        int fd, on = 1;
        while ((fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          watch(poll, fd, 0);
        }
      } else if (!serve(poll, c)) {
        close(c->fd);
        free(c);
      }
    }
  }
}
