/* Aim: a worker outlives its broker, leaves without losing what it has taken, and one worker's death is not another's.
 * Method: a real nats-server that is late, killed and restarted; kefud sent SIGTERM and SIGKILL under load. */
#include "e2e/broker.h"

enum { OK = 0, UNAVAILABLE = 14 };

static const char REQUEST[] = "\x2a\x0f"
                              "有没有大码"; /* protobuf: text, 15 bytes */

/* No request is refused for what the machine's load makes of the measured rate; and one compute thread, since two that
 * wait for each other on a busy machine are slower. */
#define NO_HURRY "--deadline-ms", "3600000", "--threads", "1"
static const char *const null_device[] = {"--device", "null", NULL};

static void send_n(client *c, int n) {
    for (int i = 0; i < n; i++)
        client_send(c, "kefu.request", i, REQUEST, sizeof REQUEST - 1, NULL);
    assert_int_equal(natsConnection_FlushTimeout(c->nc, 5000), NATS_OK);
}

static void served(client *c, int n) {
    send_n(c, n);
    assert_true(client_wait(c, n, 20000));
    for (int i = 0; i < n; i++) {
        assert_int_equal(c->answers[i].n_finals, 1);
        assert_int_equal(code_of(&c->answers[i]), OK);
    }
    client_forget_answers(c);
}

static void broker_that_comes_late(void **state) {
    (void)state;
    broker b;
    worker w;
    client c;
    char url[64];
    int port = free_port();
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", port);
    worker_start(&w, url, null_device);
    worker_wait(&w, "/startupz", 200);
    worker_wait(&w, "/readyz", 503);
    worker_wait(&w, "/livez", 200);
    sleep(1);
    assert_non_null(strstr(file_text(w.log), "\"event\":\"nats_not_connected\""));
    broker_start(&b, port, NULL);
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    served(&c, 20);
    client_close(&c);
    assert_int_equal(worker_end(&w, SIGTERM, 10000), 0);
    worker_forget(&w);
    broker_stop(&b);
}

/* A load balancer without a broker behind it: it takes connections and drops them. That is no refusal. */
static void proxy_without_a_broker(void **state) {
    (void)state;
    broker b;
    worker w;
    client c;
    char url[64];
    int port = free_port(), on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 8), 0);
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", port);
    worker_start(&w, url, null_device);
    for (int i = 0; i < 3; i++)
        close(accept(listener, NULL, NULL));
    close(listener);
    broker_start(&b, port, NULL);
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    served(&c, 5);
    client_close(&c);
    assert_int_equal(worker_end(&w, SIGTERM, 10000), 0);
    worker_forget(&w);
    broker_stop(&b);
}

static void broker_killed_and_restarted(void **state) {
    (void)state;
    broker b;
    worker w;
    client c;
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, null_device);
    worker_wait(&w, "/readyz", 200);
    for (int round = 0; round < 3; round++) {
        client_open(&c, b.url);
        served(&c, 50);
        send_n(&c, 200); /* in flight when it dies: these may be lost, the worker may not */
        broker_kill(&b);
        client_close(&c);
        worker_wait(&w, "/readyz", 503);
        worker_wait(&w, "/livez", 200);
        broker_run(&b);
        worker_wait(&w, "/readyz", 200);
    }
    client_open(&c, b.url);
    served(&c, 50);
    static char body[HTTP_BYTES];
    assert_int_equal(http_get(w.http, "/metrics", body), 200);
    assert_non_null(strstr(body, "\nkefu_nats_reconnects_total 3\n"));
    client_close(&c);
    broker_kill(&b);
    worker_wait(&w, "/readyz", 503);
    assert_int_equal(worker_end(&w, SIGTERM, 10000), 0); /* nothing in hand: it needs no broker to leave */
    worker_forget(&w);
    broker_stop(&b);
}

/* What was taken is answered; exit code 0. What comes too late for this worker stays with the broker's other workers:
 * here there are none, so nobody answers it. */
static void sigterm_drains(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 150 };
    broker b;
    worker w;
    client c;
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, (const char *[]){"--max-running", "2", NO_HURRY, NULL});
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    send_n(&c, N);
    assert_true(client_wait(&c, 1, 20000)); /* so all N have reached it: one connection keeps their order */
    kill(w.pid, SIGTERM);
    worker_wait(&w, "/readyz", 503);
    assert_true(client_wait(&c, N - 1, 60000));
    for (int i = 0; i < N; i++) {
        assert_int_equal(c.answers[i].n_finals, 1);
        assert_int_equal(code_of(&c.answers[i]), OK);
    }
    assert_int_equal(await_exit(w.pid, 10000), 0);
    w.pid = 0;
    client_close(&c);
    worker_forget(&w);
    broker_stop(&b);
}

/* Too little time to finish: what is left is answered UNAVAILABLE, and the exit code says so. */
static void drain_has_an_end(void **state) {
    (void)state;
    needs_cpu_device();
    enum { N = 1000 };
    broker b;
    worker w;
    client c;
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, (const char *[]){"--max-running", "1", "--drain-s", "0", NO_HURRY, NULL});
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    send_n(&c, N);
    assert_true(client_wait(&c, 1, 20000));
    int code = worker_end(&w, SIGTERM, 20000);
    assert_true(client_wait(&c, N - 1, 20000));
    int n_unavailable = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(c.answers[i].n_finals, 1);
        n_unavailable += code_of(&c.answers[i]) == UNAVAILABLE;
    }
    assert_true(n_unavailable > 0);
    assert_int_equal(code, 5);
    client_close(&c);
    worker_forget(&w);
    broker_stop(&b);
}

static void second_signal_ends_at_once(void **state) {
    (void)state;
    needs_cpu_device();
    broker b;
    worker w;
    client c;
    broker_start(&b, -1, NULL);
    worker_start(&w, b.url, (const char *[]){"--max-running", "1", NO_HURRY, NULL});
    worker_wait(&w, "/readyz", 200);
    client_open(&c, b.url);
    send_n(&c, 1000);
    assert_true(client_wait(&c, 1, 20000));
    kill(w.pid, SIGTERM);
    worker_wait(&w, "/readyz", 503);
    assert_int_equal(worker_end(&w, SIGINT, 1000), 5);
    client_close(&c);
    worker_forget(&w);
    broker_stop(&b);
}

static void one_of_two_workers_dies(void **state) {
    (void)state;
    broker b;
    worker w[2];
    client c;
    broker_start(&b, -1, NULL);
    for (int i = 0; i < 2; i++)
        worker_start(&w[i], b.url, null_device);
    for (int i = 0; i < 2; i++)
        worker_wait(&w[i], "/readyz", 200);
    client_open(&c, b.url);
    served(&c, 200);
    send_n(&c, 100);
    assert_int_equal(worker_end(&w[0], SIGKILL, 5000), -1);
    client_linger(&c, 500);
    client_forget_answers(&c);
    served(&c, 200);
    client_close(&c);
    assert_int_equal(worker_end(&w[1], SIGTERM, 10000), 0);
    worker_forget(&w[0]);
    worker_forget(&w[1]);
    broker_stop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broker_that_comes_late),
        cmocka_unit_test(proxy_without_a_broker),
        cmocka_unit_test(broker_killed_and_restarted),
        cmocka_unit_test(sigterm_drains),
        cmocka_unit_test(drain_has_an_end),
        cmocka_unit_test(second_signal_ends_at_once),
        cmocka_unit_test(one_of_two_workers_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
