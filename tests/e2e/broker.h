/* For end-to-end tests: a real nats-server on a free port, the build's own kefud beside it, and a client.
 *
 *     broker b;  worker w;  client c;
 *     broker_start(&b, -1, NULL);
 *     worker_start(&w, b.url, (const char *[]){"--device", "null", NULL});
 *     worker_wait(&w, "/readyz", 200);
 *     client_open(&c, b.url);
 *     client_send(&c, "kefu.request", 7, bytes, n, NULL);           // request number 7
 *     client_wait(&c, 1, 10000);                                    // until one final more has come
 *     answer *a = &c.answers[7];                                    // a->n_finals, a->final …
 *
 * The environment's KEFU_TEST_NATS_SERVER names another server than the one in the PATH. Children die with the test.
 */
#ifndef KF_TESTS_E2E_BROKER_H
#define KF_TESTS_E2E_BROKER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "kefu.pb-c.h"

enum { MAX_CALLS = 2048, PART_TEXT_BYTES = 8192, LOG_BYTES = 1 << 20, HTTP_BYTES = 1 << 17 };

/* Under ThreadSanitizer the demo's models take minutes to load onto the cpu device: the null device it is there. */
#ifdef __SANITIZE_THREAD__
enum { HAS_CPU_DEVICE = 0 };
#else
enum { HAS_CPU_DEVICE = 1 };
#endif

static inline void needs_cpu_device(void) {
    if (!HAS_CPU_DEVICE) skip();
}

/* ---- processes ---- */

/* Forks and executes argv; stdout and stderr go to the file `log`. */
static inline pid_t spawn(const char *const *argv, const char *log) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (fd >= 0) dup2(fd, 1), dup2(fd, 2);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

/* Its exit code; -1 where a signal ended it, -2 where it still runs after timeout_ms (it is killed then). */
static inline int await_exit(pid_t pid, int timeout_ms) {
    int status;
    for (int i = 0; i <= timeout_ms / 5; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        usleep(5000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -2;
}

/* A file's bytes with a NUL; valid until the next call. */
static inline const char *file_text(const char *path) {
    static char text[LOG_BYTES];
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return text;
}

static inline void make_dir(char out[64]) {
    strcpy(out, "/tmp/kefu_e2e_XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline void remove_dir(const char *dir) {
    char path[512];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d) closedir(d);
    rmdir(dir);
}

/* ---- the broker ---- */

typedef struct broker {
    pid_t pid; /* 0: not running */
    int port;
    char url[64], dir[64];
    char conf[80]; /* "" or a configuration file */
} broker;

static inline const char *nats_server(void) {
    const char *own = getenv("KEFU_TEST_NATS_SERVER");
    return own ? own : access("/usr/sbin/nats-server", X_OK) == 0 ? "/usr/sbin/nats-server" : "nats-server";
}

static inline int broker_port(const broker *b) {
    char path[128];
    snprintf(path, sizeof path, "%s/nats-server_%d.ports", b->dir, (int)b->pid);
    const char *at = strstr(file_text(path), "s://127.0.0.1:"); /* nats, or tls */
    return at ? atoi(at + strlen("s://127.0.0.1:")) : 0;
}

/* (Re)starts it on b->port and waits until it listens. */
static inline void broker_run(broker *b) {
    char port[16], log[80], found[16];
    snprintf(port, sizeof port, "%d", b->port);
    snprintf(log, sizeof log, "%s/server.log", b->dir);
    const char *argv[] = {nats_server(), "-a", "127.0.0.1", "-p", port, "--ports_file_dir", b->dir, NULL, NULL, NULL};
    if (b->conf[0]) argv[7] = "-c", argv[8] = b->conf;
    b->pid = spawn(argv, log);
    for (int i = 0; i < 1000 && !(b->port = broker_port(b)); i++)
        usleep(10000);
    if (!b->port) fail_msg("nats-server does not start: %s", file_text(log));
    snprintf(found, sizeof found, "%d", b->port);
    snprintf(b->url, sizeof b->url, "nats://127.0.0.1:%s", found);
}

/* port -1: a free one. conf: lines of a configuration file, or NULL. */
static inline void broker_start(broker *b, int port, const char *conf) {
    *b = (broker){.port = port};
    make_dir(b->dir);
    if (conf) {
        snprintf(b->conf, sizeof b->conf, "%s/nats.conf", b->dir);
        FILE *f = fopen(b->conf, "we");
        assert_non_null(f);
        fputs(conf, f);
        fclose(f);
    }
    broker_run(b);
}

static inline void broker_kill(broker *b) {
    if (b->pid <= 0) return;
    kill(b->pid, SIGKILL);
    await_exit(b->pid, 5000);
    b->pid = 0;
}

static inline void broker_stop(broker *b) {
    broker_kill(b);
    remove_dir(b->dir);
}

/* A port that nobody listens on now. */
static inline int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* ---- the worker ---- */

typedef struct worker {
    pid_t pid;
    int http;
    char dir[64], log[80];
} worker;

/* GET path; the status code, 0 where nobody answers. The body is in `body`, with a NUL. */
static inline int http_get(int port, const char *path, char body[HTTP_BYTES]) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[128];
    size_t n = 0;
    ssize_t got;
    int fd = socket(AF_INET, SOCK_STREAM, 0), code = 0;
    body[0] = 0;
    snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && write(fd, request, strlen(request)) > 0)
        while (n < HTTP_BYTES - 1 && (got = read(fd, body + n, HTTP_BYTES - 1 - n)) > 0)
            n += (size_t)got;
    close(fd);
    body[n] = 0;
    const char *start = strstr(body, "\r\n\r\n");
    if (sscanf(body, "HTTP/%*s %d", &code) != 1 || !start) return 0;
    memmove(body, start + 4, strlen(start + 4) + 1);
    return code;
}

/* Starts kefud with `more` options (ends with NULL) and waits until its HTTP answers. */
static inline void worker_start(worker *w, const char *url, const char *const *more) {
    const char *argv[40] = {KF_BIN_DIR "/kefud",     "--nats", url,           "--models",
                            KF_SOURCE_DIR "/models", "--http", "127.0.0.1:0", NULL};
    static const char event[] = "\"event\":\"http_listening\",\"address\":\"127.0.0.1:";
    size_t n = 7;
    for (; more && *more; more++)
        argv[n++] = *more;
    *w = (worker){0};
    make_dir(w->dir);
    snprintf(w->log, sizeof w->log, "%s/kefud.log", w->dir);
    w->pid = spawn(argv, w->log);
    for (int i = 0; i < 1000 && !w->http; i++) {
        const char *at = strstr(file_text(w->log), event);
        w->http = at ? atoi(at + sizeof event - 1) : 0;
        if (!w->http) usleep(10000);
    }
    if (!w->http) fail_msg("kefud does not start: %s", file_text(w->log));
}

/* Waits until path answers with the code. */
static inline void worker_wait(const worker *w, const char *path, int code) {
    static char body[HTTP_BYTES];
    int got = 0;
    for (int i = 0; i < 20000; i++) {
        if ((got = http_get(w->http, path, body)) == code) return;
        usleep(10000);
    }
    fail_msg("%s gives %d \"%s\", not %d; log: %s", path, got, body, code, file_text(w->log));
}

/* Sends the signal and returns the exit code, as await_exit does. The log is left until worker_forget. */
static inline int worker_end(worker *w, int signal_no, int timeout_ms) {
    kill(w->pid, signal_no);
    int code = await_exit(w->pid, timeout_ms);
    w->pid = 0;
    return code;
}

static inline void worker_forget(worker *w) {
    if (w->pid > 0) worker_end(w, SIGKILL, 5000);
    remove_dir(w->dir);
}

/* ---- a client: many requests outstanding on one wildcard inbox ---- */

typedef struct answer {
    int n_finals, n_parts;
    Kefu__V1__Response *final; /* the last one; protobuf replies only */
    char *json;                /* the last final of a JSON reply */
    char parts[PART_TEXT_BYTES];
    uint32_t last_seq;
    bool in_order; /* parts numbered 0, 1, …, offsets continuing, none after the final */
    char code_header[16], trace_header[80], type_header[40];
} answer;

typedef struct client {
    natsConnection *nc;
    natsSubscription *inbox;
    char prefix[80];
    answer *answers; /* [MAX_CALLS] */
    int n_finals;    /* of all */
} client;

static inline void client_open(client *c, const char *url) {
    *c = (client){0};
    natsInbox *inbox = NULL;
    char subject[90];
    c->answers = calloc(MAX_CALLS, sizeof *c->answers);
    assert_non_null(c->answers);
    assert_int_equal(natsConnection_ConnectTo(&c->nc, url), NATS_OK);
    assert_int_equal(natsInbox_Create(&inbox), NATS_OK);
    snprintf(c->prefix, sizeof c->prefix, "%s", inbox);
    natsInbox_Destroy(inbox);
    snprintf(subject, sizeof subject, "%s.*", c->prefix);
    assert_int_equal(natsConnection_SubscribeSync(&c->inbox, c->nc, subject), NATS_OK);
    assert_int_equal(natsConnection_FlushTimeout(c->nc, 5000), NATS_OK);
}

static inline void client_forget_answers(client *c) {
    for (int i = 0; i < MAX_CALLS; i++) {
        if (c->answers[i].final) kefu__v1__response__free_unpacked(c->answers[i].final, NULL);
        free(c->answers[i].json);
    }
    memset(c->answers, 0, MAX_CALLS * sizeof *c->answers);
    c->n_finals = 0;
}

static inline void client_close(client *c) {
    client_forget_answers(c);
    natsSubscription_Destroy(c->inbox);
    natsConnection_Destroy(c->nc);
    free(c->answers);
}

/* Publishes request number idx; headers: name, value, …, NULL; or NULL. */
static inline void client_send(client *c, const char *subject, int idx, const void *bytes, size_t n,
                               const char *const *headers) {
    natsMsg *msg = NULL;
    char reply[100];
    assert_in_range(idx, 0, MAX_CALLS - 1);
    snprintf(reply, sizeof reply, "%s.%d", c->prefix, idx);
    assert_int_equal(natsMsg_Create(&msg, subject, reply, bytes, (int)n), NATS_OK);
    for (; headers && headers[0]; headers += 2)
        assert_int_equal(natsMsgHeader_Set(msg, headers[0], headers[1]), NATS_OK);
    c->answers[idx].in_order = true;
    assert_int_equal(natsConnection_PublishMsg(c->nc, msg), NATS_OK);
    natsMsg_Destroy(msg);
}

static inline void client_send_request(client *c, const char *subject, int idx, const Kefu__V1__Request *r) {
    size_t n = kefu__v1__request__get_packed_size(r);
    uint8_t *bytes = malloc(n + 1);
    assert_non_null(bytes);
    kefu__v1__request__pack(r, bytes);
    client_send(c, subject, idx, bytes, n, NULL);
    free(bytes);
}

static inline void copy_header(natsMsg *msg, const char *name, char *out, size_t cap) {
    const char *value = NULL;
    if (natsMsgHeader_Get(msg, name, &value) == NATS_OK && value) snprintf(out, cap, "%s", value);
}

static inline void take_part(answer *a, const Kefu__V1__Response *r) {
    size_t n = strlen(a->parts);
    size_t n_chars = 0;
    for (size_t i = 0; i < n; i++)
        n_chars += ((unsigned char)a->parts[i] & 0xc0) != 0x80;
    if (r->seq != (uint32_t)a->n_parts || a->n_finals || !r->reply || r->reply->text_offset != n_chars)
        a->in_order = false;
    if (r->reply) snprintf(a->parts + n, sizeof a->parts - n, "%s", r->reply->text);
    a->n_parts++;
}

/* What nats bench would end at: an empty reply, first byte 0x2D, "error" in a reply's own words. */
static inline void check_bytes(const char *bytes, size_t n) {
    assert_true(n > 0);
    assert_int_not_equal(bytes[0], 0x2D);
    assert_null(memmem(bytes, n, "error", 5));
}

static inline void take_message(client *c, natsMsg *msg) {
    const char *subject = natsMsg_GetSubject(msg), *bytes = natsMsg_GetData(msg);
    size_t n = (size_t)natsMsg_GetDataLength(msg);
    int idx = atoi(strrchr(subject, '.') + 1);
    answer *a = &c->answers[idx];
    check_bytes(bytes, n);
    copy_header(msg, "Nats-Service-Error-Code", a->code_header, sizeof a->code_header);
    copy_header(msg, "traceparent", a->trace_header, sizeof a->trace_header);
    copy_header(msg, "Content-Type", a->type_header, sizeof a->type_header);
    if (bytes[0] == '{') {
        if (!memmem(bytes, n, "\"final\":true", 12)) {
            a->n_parts++;
            return;
        }
        free(a->json);
        a->json = strndup(bytes, n);
    } else {
        Kefu__V1__Response *r = kefu__v1__response__unpack(NULL, n, (const uint8_t *)bytes);
        if (!r) fail_msg("request %d: the reply's %zu bytes are no Response", idx, n);
        if (!r->final) {
            take_part(a, r);
            kefu__v1__response__free_unpacked(r, NULL);
            return;
        }
        if (a->final) kefu__v1__response__free_unpacked(a->final, NULL);
        a->final = r;
    }
    a->n_finals++;
    c->n_finals++;
}

/* Takes what comes until n_finals more have come; false after timeout_ms without them. */
static inline bool client_wait(client *c, int n_finals, int timeout_ms) {
    int64_t until = kf_clock_now_ns() + timeout_ms * 1000000LL;
    int wanted = c->n_finals + n_finals;
    natsMsg *msg = NULL;
    while (c->n_finals < wanted && kf_clock_now_ns() < until) {
        if (natsSubscription_NextMsg(&msg, c->inbox, 50) != NATS_OK) continue;
        take_message(c, msg);
        natsMsg_Destroy(msg);
    }
    return c->n_finals >= wanted;
}

/* Takes whatever still comes within the time: for showing that nothing does. */
static inline void client_linger(client *c, int ms) {
    client_wait(c, MAX_CALLS * 4, ms);
}

static inline int code_of(const answer *a) {
    return a->final && a->final->status ? (int)a->final->status->code : -1;
}

#endif
