/* Aim: the four paths answer as probes and scrapers want it, and nothing else is served, whatever is sent.
 * Method: the HTTP thread on a free port, raw requests over a socket. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "observe/http.h"
#include "observe/metrics.h"

static const int64_t PROBE_NS = 1000000000; /* Kubernetes' timeoutSeconds where none is set */
static atomic_int healthy, n_gauges_set;
static char answer[1 << 17];

static bool probe(void *ctx, kf_probe which, char *why, size_t cap) {
    assert_ptr_equal(ctx, &healthy);
    if (atomic_load(&healthy)) return true;
    snprintf(why, cap, "probe %d says no\n", which);
    return false;
}

static void gauges(void *ctx) {
    (void)ctx;
    atomic_fetch_add(&n_gauges_set, 1);
    kf_metric_set(KF_M_RUNNING, 7);
}

static kf_http *start(const char *address) {
    kf_http *h = NULL;
    kf_http_opts o = {.address = address, .probe = probe, .before_metrics = gauges, .ctx = &healthy};
    assert_int_equal(kf_http_start(&o, &h), KF_OK);
    return h;
}

static int connect_to(const kf_http *h) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)kf_http_port(h)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Sends the bytes; the status code, 0 where none came. The whole answer is in `answer`. */
static int send_raw(const kf_http *h, const char *bytes, size_t n_bytes) {
    int fd = connect_to(h), code = 0;
    size_t n = 0;
    ssize_t got;
    assert_int_equal(send(fd, bytes, n_bytes, MSG_NOSIGNAL), (ssize_t)n_bytes);
    shutdown(fd, SHUT_WR);
    while (n < sizeof answer - 1 && (got = read(fd, answer + n, sizeof answer - 1 - n)) > 0)
        n += (size_t)got;
    close(fd);
    answer[n] = 0;
    return sscanf(answer, "HTTP/%*s %d", &code) == 1 ? code : 0;
}

static int get(const kf_http *h, const char *method, const char *path) {
    char request[256];
    int n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path);
    return send_raw(h, request, (size_t)n);
}

static void probes_say_yes_or_why_not(void **state) {
    (void)state;
    static const char *const paths[] = {"/livez", "/readyz", "/startupz"};
    kf_http *h = start("127.0.0.1:0");
    for (int i = 0; i < 3; i++) {
        char why[32];
        atomic_store(&healthy, 1);
        assert_int_equal(get(h, "GET", paths[i]), 200);
        assert_non_null(strstr(answer, "\r\n\r\nok\n"));
        atomic_store(&healthy, 0);
        assert_int_equal(get(h, "GET", paths[i]), 503);
        snprintf(why, sizeof why, "\r\n\r\nprobe %d says no\n", i);
        assert_non_null(strstr(answer, why));
    }
    kf_http_stop(h);
}

static void metrics_are_fresh(void **state) {
    (void)state;
    kf_http *h = start(":0");
    int before = atomic_load(&n_gauges_set);
    assert_int_equal(get(h, "GET", "/metrics"), 200);
    assert_int_equal(atomic_load(&n_gauges_set), before + 1);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(answer, "\nkefu_num_requests_running 7\n"));
    kf_http_stop(h);
}

static void nothing_else_is_served(void **state) {
    (void)state;
    static char long_path[40000];
    kf_http *h = start("127.0.0.1:0");
    atomic_store(&healthy, 1);
    assert_int_equal(get(h, "GET", "/"), 404);
    assert_int_equal(get(h, "GET", "/metrics/../etc/passwd"), 404);
    assert_int_equal(get(h, "POST", "/livez"), 405);
    assert_int_equal(get(h, "HEAD", "/livez"), 200);
    int n = snprintf(long_path, sizeof long_path, "GET /%0*d HTTP/1.1\r\nHost: x\r\n\r\n", 39000, 0);
    int code = send_raw(h, long_path, (size_t)n);
    assert_true(code == 0 || code >= 400);
    assert_true(send_raw(h, "\xff garbage\r\n\r\n", 13) != 200);
    assert_int_equal(get(h, "GET", "/livez"), 200); /* still there */
    kf_http_stop(h);
}

/* Clients that send half a request and wait, many more than there are places, some of them a byte at a time. */
static void unfinished_requests_hinder_no_probe(void **state) {
    (void)state;
    enum { N_SLOW = 400 };
    static const char half[] = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    static int slow[N_SLOW];
    kf_http *h = start("127.0.0.1:0");
    atomic_store(&healthy, 1);
    for (int i = 0; i < N_SLOW; i++) {
        slow[i] = connect_to(h);
        send(slow[i], half, i % 2 ? sizeof half - 1 : 4, MSG_NOSIGNAL);
        for (int j = 0; j < i && i % 10 == 0; j++) /* who still has a place keeps it busy */
            send(slow[j], "x", 1, MSG_NOSIGNAL);
        int64_t from_ns = kf_clock_now_ns();
        if (i % 10 == 0) assert_int_equal(get(h, "GET", "/livez"), 200);
        if (kf_clock_now_ns() - from_ns > PROBE_NS) fail_msg("a probe among %d slow clients is late", i);
    }
    for (int i = 0; i < N_SLOW; i++)
        close(slow[i]);
    kf_http_stop(h);
}

static void bad_addresses_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:8x", "localhost:80", "[::1:80"};
    kf_http *h = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kf_http_opts o = {.address = wrong[i], .probe = probe, .ctx = &healthy};
        if (kf_http_start(&o, &h) != KF_ERR_INVALID) fail_msg("\"%s\" is taken", wrong[i]);
        assert_null(h);
    }
    kf_http *first = start("127.0.0.1:0");
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", kf_http_port(first));
    kf_http_opts o = {.address = taken, .probe = probe, .ctx = &healthy};
    assert_int_equal(kf_http_start(&o, &h), KF_ERR_IO);
    assert_non_null(strstr(kf_error_text(), taken));
    kf_http_stop(first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_say_yes_or_why_not), cmocka_unit_test(metrics_are_fresh),
        cmocka_unit_test(nothing_else_is_served),    cmocka_unit_test(unfinished_requests_hinder_no_probe),
        cmocka_unit_test(bad_addresses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
