/* libmicrohttpd behind http.h: one thread with epoll, at most MAX_CONNECTIONS clients, requests without a body.
 *
 * A probe is answered in well under its second whatever else is connected: who comes is let in at once, and above
 * MAX_OPEN the connection that is open longest goes. An answer takes microseconds and ends its connection: what goes
 * is a client that has not finished its request. */
#include "observe/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/log.h"
#include "observe/metrics.h"

enum {
    MAX_CONNECTIONS = 96,
    MAX_OPEN = 64, /* the rest: being closed, or accepted in one turn of libmicrohttpd's loop */
    CONNECTION_BYTES = 8 << 10,
    IDLE_SECONDS = 10
};

/* A place for one connection; the HTTP thread's. */
typedef struct place {
    bool open;
    int fd;
    uint64_t arrival; /* counts connections */
} place;

struct kf_http {
    kf_http_opts opts;
    struct MHD_Daemon *daemon;
    unsigned port;
    place places[MAX_CONNECTIONS];
    uint64_t n_arrived;
};

/* ---- who is connected ---- */

/* Closes the longest open one: libmicrohttpd reads its end, and says MHD_CONNECTION_NOTIFY_CLOSED. */
static void close_oldest(kf_http *h) {
    place *oldest = NULL;
    size_t n_open = 0;
    for (place *p = h->places; p < h->places + MAX_CONNECTIONS; p++) {
        if (!p->open) continue;
        n_open++;
        if (!oldest || p->arrival < oldest->arrival) oldest = p;
    }
    if (n_open <= MAX_OPEN) return;
    shutdown(oldest->fd, SHUT_RDWR);
    oldest->open = false;
}

static void on_connection(void *ctx, struct MHD_Connection *c, void **its_place,
                          enum MHD_ConnectionNotificationCode what) {
    kf_http *h = ctx;
    place *p = h->places;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        p = *its_place;
        if (p) *p = (place){0};
        return;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    while (p < h->places + MAX_CONNECTIONS && p->arrival)
        p++;
    if (!info || p == h->places + MAX_CONNECTIONS) return; /* never: there are as many places as connections */
    *p = (place){.open = true, .fd = info->connect_fd, .arrival = ++h->n_arrived};
    *its_place = p;
    close_oldest(h);
}

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, const char *type, char *body, size_t n,
                              enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *r = MHD_create_response_from_buffer(n, body, mode);
    if (!r) {
        if (mode == MHD_RESPMEM_MUST_FREE) free(body);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    enum MHD_Result done = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned code, char *text) {
    return answer(c, code, "text/plain; charset=utf-8", text, strlen(text), MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result answer_probe(kf_http *h, struct MHD_Connection *c, kf_probe which) {
    char text[256] = "ok\n";
    bool ok = h->opts.probe(h->opts.ctx, which, text, sizeof text - 1);
    if (ok) snprintf(text, sizeof text, "ok\n");
    return answer_text(c, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result answer_metrics(kf_http *h, struct MHD_Connection *c) {
    if (h->opts.before_metrics) h->opts.before_metrics(h->opts.ctx);
    size_t cap = kf_metrics_write(NULL, 0) + 1024; /* counters may grow by a digit meanwhile */
    char *body = malloc(cap);
    if (!body) return MHD_NO;
    size_t n = kf_metrics_write(body, cap);
    return answer(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", body, n < cap ? n : cap,
                  MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **con_cls) {
    (void)version, (void)upload, (void)con_cls;
    kf_http *h = ctx;
    *upload_bytes = 0;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, (char[]){"GET only\n"});
    if (!strcmp(url, "/livez")) return answer_probe(h, c, KF_PROBE_LIVE);
    if (!strcmp(url, "/readyz")) return answer_probe(h, c, KF_PROBE_READY);
    if (!strcmp(url, "/startupz")) return answer_probe(h, c, KF_PROBE_STARTUP);
    if (!strcmp(url, "/metrics")) return answer_metrics(h, c);
    return answer_text(c, MHD_HTTP_NOT_FOUND, (char[]){"kefud has /livez /readyz /startupz /metrics\n"});
}

/* ---- the address ---- */

/* "HOST:PORT" to a socket address; HOST may be empty (any), IPv4 or [IPv6]. */
static kf_status parse_address(const char *text, struct sockaddr_storage *out) {
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    size_t n = colon ? (size_t)(colon - text) : 0;
    unsigned long port = colon && colon[1] ? strtoul(colon + 1, &end, 10) : 65536;
    if (port > 65535 || *end || n >= sizeof host)
        return KF_FAIL(KF_ERR_INVALID, "--http %s: ADDR:PORT wanted, for example 0.0.0.0:8080 or [::]:8080", text);
    memcpy(host, text, n);
    host[n] = 0;
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1) return KF_OK;
    } else {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        if (inet_pton(AF_INET, n ? host : "0.0.0.0", &v4->sin_addr) == 1) return KF_OK;
    }
    return KF_FAIL(KF_ERR_INVALID, "--http %s: \"%s\" is no IPv4 or [IPv6] address", text, host);
}

kf_status kf_http_address_check(const char *address) {
    struct sockaddr_storage a;
    return parse_address(address, &a);
}

static kf_status bind_socket(const char *text, int *out) {
    struct sockaddr_storage a;
    KF_TRY(parse_address(text, &a));
    socklen_t n = a.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int on = 1, fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return KF_FAIL(KF_ERR_IO, "--http %s: socket: %s", text, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, MAX_CONNECTIONS) < 0) {
        kf_status s =
            KF_FAIL(KF_ERR_IO, "--http %s: cannot listen there: %s; choose another port", text, strerror(errno));
        close(fd);
        return s;
    }
    *out = fd;
    return KF_OK;
}

static unsigned port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.v6 = {0}};
    socklen_t n = sizeof a;
    if (getsockname(fd, &a.any, &n) < 0) return 0;
    return ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

static struct MHD_Daemon *start_daemon(kf_http *h, int fd) {
    return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle, h, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
}

kf_status kf_http_start(const kf_http_opts *o, kf_http **out) {
    int fd = -1;
    KF_TRY(bind_socket(o->address, &fd));
    kf_http *h = malloc(sizeof *h);
    if (h) {
        *h = (kf_http){.opts = *o, .port = port_of(fd)};
        h->daemon = start_daemon(h, fd);
    }
    if (!h || !h->daemon) {
        close(fd);
        free(h);
        return KF_FAIL(KF_ERR_NO_MEMORY, "--http %s: the HTTP thread does not start", o->address);
    }
    char address[96];
    snprintf(address, sizeof address, "%.*s:%u", (int)(strrchr(o->address, ':') - o->address), o->address, h->port);
    kf_log(KF_INFO, "http_listening", KF_STR("address", address), KF_END);
    *out = h;
    return KF_OK;
}

void kf_http_stop(kf_http *h) {
    if (!h) return;
    MHD_stop_daemon(h->daemon); /* closes the socket too */
    free(h);
}

unsigned kf_http_port(const kf_http *h) {
    return h->port;
}
