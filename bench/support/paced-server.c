/*
 * A completions server whose speed is known, so that what a run costs beyond it can be told: each prompt takes a fixed time, a
 * fixed number of them at once, and the answers cost almost no CPU here, as those of a machine of its own would not. Their
 * log-probabilities are all alike.
 *
 *     paced-server --port 8000 --prompt-ms 20 --width 16 --ready-after-ms 3000 --tally FILE
 *
 * Without --port it takes EH_PORT. Each prompt that came adds a byte to FILE.asked, and to FILE when it is answered; the times of
 * the start, of getting ready, of the first request and of the stop are lines of FILE.times. All survive a SIGKILL.
 *
 * Knows no more of HTTP/1.1 and JSON than the clients here speak: Content-Length, keep-alive, one request at a time per
 * connection, prompts as text (each byte is a token) or as ids.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct text {
  char *bytes;
  size_t length, room;
};

struct connection {
  int fd;
  struct text received, answer;
  size_t sent;
  /* When the answer may go, on the monotonic clock; 0: there is none that waits. */
  double due_ms;
  int prompts;
  struct connection *next_waiting;
};

static double prompt_ms = 20, ready_at_ms;
static const char *tally_path;
static int answered, asked, poller, timer;
/* When each of the places for prompts is free. */
static double *free_at_ms;
static int width = 16;
static struct connection *waiting;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double clock_ms(clockid_t clock) {
  struct timespec at;
  clock_gettime(clock, &at);
  return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static int open_beside_tally(const char *suffix) {
  char path[4096];
  snprintf(path, sizeof path, "%s%s", tally_path, suffix);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) die(path);
  return fd;
}

static void append(int fd, const char *bytes, int length) {
  if (write(fd, bytes, length) != length) die(tally_path);
}

static void note(const char *event) {
  char line[256];
  int length = snprintf(line, sizeof line, "{\"event\":\"%s\",\"at_ms\":%.0f}\n", event, clock_ms(CLOCK_REALTIME));
  int fd = open_beside_tally(".times");
  append(fd, line, length);
  close(fd);
}

static void make_room(struct text *text, size_t more) {
  if (text->length + more <= text->room) return;
  text->room = 2 * (text->length + more);
  if ((text->bytes = realloc(text->bytes, text->room)) == NULL) die("realloc");
}

static void add(struct text *text, const char *bytes, size_t length) {
  make_room(text, length);
  memcpy(text->bytes + text->length, bytes, length);
  text->length += length;
}

static void addf(struct text *text, const char *format, ...) {
  char line[512];
  va_list values;
  va_start(values, format);
  int length = vsnprintf(line, sizeof line, format, values);
  va_end(values);
  add(text, line, length);
}

/* Behind a key and its colon; NULL when the body has no such key. */
static const char *value_of(const char *body, const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *at = strstr(body, quoted);
  return at == NULL ? NULL : at + strlen(quoted) + strspn(at + strlen(quoted), " ");
}

/* Counts the tokens of the prompt that begins here, and goes on behind it. */
static int take_prompt(const char **at) {
  int tokens = 0;
  if (**at == '"') {
    for (++*at; **at != '"' && **at != 0; tokens++) {
      if (**at == '\\') *at += (*at)[1] == 'u' ? 6 : 2;
      else ++*at;
    }
  } else {
    for (++*at; **at != ']' && **at != 0; ++*at) tokens += **at == ',' || tokens == 0;
  }
  if (**at != 0) ++*at;
  return tokens;
}

/* Waits for a place in their order. A place goes on with what waits when it is free, not when this process, which has to share
   the machine with its clients, gets round to it: a real server would not wait for them. */
static double end_of_prompt(double now_ms) {
  int first = 0;
  for (int place = 1; place < width; place++) if (free_at_ms[place] < free_at_ms[first]) first = place;
  double begin_ms = free_at_ms[first] > now_ms ? free_at_ms[first] : now_ms;
  return free_at_ms[first] = begin_ms + prompt_ms;
}

static void add_choice(struct text *body, int index, int tokens, int is_scored) {
  static const char token[] = ",-1.5", top[] = ",{\"a\":-1.5}";
  addf(body, "%s{\"index\":%d,\"text\":\"%s\"", index > 0 ? "," : "", index, is_scored ? "a" : " 7");
  if (is_scored) {
    addf(body, ",\"logprobs\":{\"token_logprobs\":[null");
    for (int n = 0; n < tokens; n++) add(body, token, sizeof token - 1);
    addf(body, "],\"top_logprobs\":[null");
    for (int n = 0; n < tokens; n++) add(body, top, sizeof top - 1);
    addf(body, "]}");
  }
  addf(body, "}");
}

static void answer_with(struct connection *c, const char *status, const char *body, size_t length) {
  c->answer.length = c->sent = 0;
  addf(&c->answer, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", status, length);
  add(&c->answer, body, length);
}

static void complete(struct connection *c, const char *request, int is_probe) {
  static struct text body;
  static int was_asked;
  const char *prompt = value_of(request, "prompt"), *logprobs = value_of(request, "logprobs");
  int is_scored = logprobs != NULL && strncmp(logprobs, "null", 4) != 0;
  if (prompt == NULL) return answer_with(c, "400 Bad Request", "", 0);
  /* A list of texts, or of lists. */
  int are_many = *prompt == '[' && prompt[1 + strspn(prompt + 1, " ")] != ']' && strchr("[\"", prompt[1 + strspn(prompt + 1, " ")]) != NULL;
  if (are_many) prompt++;
  int prompts = 0, tokens = 0;
  double now_ms = clock_ms(CLOCK_MONOTONIC), due_ms = now_ms;
  /* What eval-hive asks before an evaluation is no part of it. */
  if (!is_probe && !was_asked) note("first-request"), was_asked = 1;
  body.length = 0;
  addf(&body, "{\"choices\":[");
  do {
    if (are_many) prompt += strspn(prompt, " ,");
    int length = take_prompt(&prompt);
    add_choice(&body, prompts++, length, is_scored);
    tokens += length;
    if (!is_probe) {
      append(asked, ".", 1);
      double end_ms = end_of_prompt(now_ms);
      if (end_ms > due_ms) due_ms = end_ms;
    }
  } while (are_many && prompt[strspn(prompt, " ")] == ',');
  addf(&body, "],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d}}", tokens, prompts);
  answer_with(c, "200 OK", body.bytes, body.length);
  if (is_probe) return;
  c->prompts = prompts;
  c->due_ms = due_ms;
  c->next_waiting = waiting;
  waiting = c;
}

/* Returns 0 when the connection is over. */
static int send_rest(struct connection *c) {
  if (c->due_ms > 0) return 1;
  while (c->sent < c->answer.length) {
    ssize_t n = send(c->fd, c->answer.bytes + c->sent, c->answer.length - c->sent, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c->sent += n;
  }
  return 1;
}

/* Takes the request apart once it is whole. */
static int take_request(struct connection *c) {
  make_room(&c->received, 1);
  char *text = c->received.bytes;
  text[c->received.length] = 0;
  char *head_end = strstr(text, "\r\n\r\n");
  if (head_end == NULL) return 1;
  *head_end = 0;
  char *length = strcasestr(text, "\r\ncontent-length:");
  size_t whole = head_end + 4 - text + (length == NULL ? 0 : strtoul(length + 17, NULL, 10));
  int is_probe = strcasestr(text, "\r\nuser-agent: eval-hive-probe") != NULL;
  *head_end = '\r';
  if (c->received.length < whole) return 1;
  if (strncmp(text, "POST ", 5) == 0) {
    complete(c, head_end + 4, is_probe);
  } else if (strncmp(text, "GET /v1/models ", 15) == 0) {
    const char *model = getenv("EH_MODEL_PATH");
    char body[4200];
    int bytes = snprintf(body, sizeof body, "{\"data\":[{\"id\":\"%s\"}]}", model == NULL ? "paced" : model);
    answer_with(c, "200 OK", body, bytes);
  } else {
    int is_ready = clock_ms(CLOCK_MONOTONIC) >= ready_at_ms;
    answer_with(c, is_ready ? "200 OK" : "503 Service Unavailable", "", 0);
  }
  c->received.length = 0;
  return send_rest(c);
}

static int serve(struct connection *c) {
  if (!send_rest(c)) return 0;
  for (;;) {
    make_room(&c->received, 1 << 16);
    ssize_t n = recv(c->fd, c->received.bytes + c->received.length, 1 << 16, 0);
    if (n == 0) return 0;
    if (n < 0) return errno == EAGAIN;
    c->received.length += n;
    if (!take_request(c)) return 0;
  }
}

static void end(struct connection *c) {
  for (struct connection **at = &waiting; *at != NULL; at = &(*at)->next_waiting) {
    if (*at == c) {
      *at = c->next_waiting;
      break;
    }
  }
  close(c->fd);
  free(c->received.bytes);
  free(c->answer.bytes);
  free(c);
}

/* Sends the answers whose time has come, and sets the timer to the next one's. */
static void send_due(void) {
  static int was_ready;
  double now_ms = clock_ms(CLOCK_MONOTONIC), next_ms = was_ready ? 0 : ready_at_ms;
  if (!was_ready && now_ms >= ready_at_ms) note("ready"), was_ready = 1, next_ms = 0;
  for (struct connection **at = &waiting; *at != NULL;) {
    struct connection *c = *at;
    if (c->due_ms > now_ms) {
      if (next_ms == 0 || c->due_ms < next_ms) next_ms = c->due_ms;
      at = &c->next_waiting;
      continue;
    }
    *at = c->next_waiting;
    for (; c->prompts > 0; c->prompts--) append(answered, ".", 1);
    c->due_ms = 0;
    /* Whoever is not there any more is seen at the next look at its connection. */
    send_rest(c);
  }
  struct itimerspec to = {.it_value = {.tv_sec = next_ms / 1e3, .tv_nsec = (long long)(next_ms * 1e6) % 1000000000}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &to, NULL);
}

static void watch(int fd, unsigned events, void *what) {
  struct epoll_event event = {.events = events, .data.ptr = what};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  return fd;
}

static int signals(void) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  return signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
}

int main(int argc, char **argv) {
  const char *port = getenv("EH_PORT");
  double ready_after_ms = 0;
  for (int n = 1; n + 1 < argc; n += 2) {
    const char *name = argv[n], *value = argv[n + 1];
    if (strcmp(name, "--port") == 0) port = value;
    else if (strcmp(name, "--prompt-ms") == 0) prompt_ms = atof(value);
    else if (strcmp(name, "--width") == 0) width = atoi(value);
    else if (strcmp(name, "--ready-after-ms") == 0) ready_after_ms = atof(value);
    else if (strcmp(name, "--tally") == 0) tally_path = value;
    else return 2;
  }
  if (tally_path == NULL || port == NULL || width < 1) return 2;
  free_at_ms = calloc(width, sizeof *free_at_ms);
  answered = open_beside_tally("");
  asked = open_beside_tally(".asked");
  ready_at_ms = clock_ms(CLOCK_MONOTONIC) + ready_after_ms;
  note("started");
  poller = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  int listener = listen_on(atoi(port)), ending = signals();
  watch(timer, EPOLLIN, &timer);
  watch(listener, EPOLLIN, &listener);
  watch(ending, EPOLLIN, &ending);
  for (;;) {
    send_due();
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, 64, -1);
    for (int n = 0; n < count; n++) {
      void *what = events[n].data.ptr;
      if (what == &ending) {
        note("stopped");
        return 0;
      } else if (what == &listener) {
        int fd, on = 1;
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          struct connection *c = calloc(1, sizeof *c);
          c->fd = fd;
          watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
        }
      } else if (what != &timer && !serve(what)) {
        end(what);
      }
    }
  }
}
