/* Aim: what several threads push is popped once each, in each producer's order; a full queue says so and never waits;
 * closing wakes every waiter; the descriptor is readable exactly while there may be something.
 * Method: four producers and three consumers over a small ring (run under ThreadSanitizer too), then single steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/queue.h"

enum { PRODUCERS = 4, CONSUMERS = 3, EACH = 5000, CAP = 16 };

/* An item is its producer and its number in one pointer; never NULL. */
static void *item(size_t producer, size_t number) {
    return (void *)(uintptr_t)(producer * EACH + number + 1);
}

static kf_queue queue;
static atomic_uchar seen[PRODUCERS * EACH + 1];
static atomic_int n_bad;

static void *produce(void *arg) {
    size_t producer = (size_t)(uintptr_t)arg;
    for (size_t i = 0; i < EACH; i++) {
        kf_status s;
        while ((s = kf_queue_push(&queue, item(producer, i))) == KF_ERR_OVERLOADED)
            sched_yield();
        if (s != KF_OK) n_bad++;
    }
    return NULL;
}

static void *consume(void *arg) {
    size_t last[PRODUCERS] = {0};
    void *got;
    (void)arg;
    while (kf_queue_pop(&queue, &got, -1) == KF_OK) {
        size_t n = (size_t)(uintptr_t)got, producer = (n - 1) / EACH;
        if (atomic_fetch_add(&seen[n], 1) != 0) n_bad++; /* twice */
        if (n <= last[producer]) n_bad++;                /* out of order */
        last[producer] = n;
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    assert_int_equal(kf_queue_init(&queue, CAP, false), KF_OK);
    for (size_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, NULL), 0);
    for (size_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&producers[i], NULL, produce, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    kf_queue_close(&queue); /* what is in it can still be popped */
    for (size_t i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    assert_int_equal(n_bad, 0);
    for (size_t i = 1; i <= PRODUCERS * EACH; i++)
        assert_int_equal(seen[i], 1);
    kf_queue_free(&queue);
}

static void test_full_and_closed(void **state) {
    (void)state;
    kf_queue q;
    void *got = NULL;
    assert_int_equal(kf_queue_init(&q, 2, false), KF_OK);
    assert_int_equal(kf_queue_pop(&q, &got, 0), KF_ERR_DEADLINE);
    assert_int_equal(kf_queue_push(&q, item(0, 0)), KF_OK);
    assert_int_equal(kf_queue_push(&q, item(0, 1)), KF_OK);
    assert_int_equal(kf_queue_push(&q, item(0, 2)), KF_ERR_OVERLOADED);
    assert_int_equal(kf_queue_length(&q), 2);
    kf_queue_close(&q);
    assert_int_equal(kf_queue_push(&q, item(0, 3)), KF_ERR_CLOSED);
    assert_int_equal(kf_queue_pop(&q, &got, 0), KF_OK);
    assert_ptr_equal(got, item(0, 0));
    assert_int_equal(kf_queue_pop(&q, &got, -1), KF_OK);
    assert_ptr_equal(got, item(0, 1));
    assert_int_equal(kf_queue_pop(&q, &got, -1), KF_ERR_CLOSED);
    assert_ptr_equal(got, item(0, 1)); /* written on success only */
    kf_queue_free(&q);
}

static void test_time_limit(void **state) {
    (void)state;
    kf_queue q;
    void *got;
    assert_int_equal(kf_queue_init(&q, 1, false), KF_OK);
    int64_t start = kf_clock_now_ns();
    assert_int_equal(kf_queue_pop(&q, &got, 20000000), KF_ERR_DEADLINE);
    assert_true(kf_clock_now_ns() - start >= 20000000);
    kf_queue_free(&q);
}

static bool readable(const kf_queue *q) {
    struct pollfd p = {.fd = kf_queue_fd(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_descriptor(void **state) {
    (void)state;
    kf_queue q;
    void *got;
    assert_int_equal(kf_queue_init(&q, 4, true), KF_OK);
    assert_false(readable(&q));
    assert_int_equal(kf_queue_push(&q, item(0, 0)), KF_OK);
    assert_int_equal(kf_queue_push(&q, item(0, 1)), KF_OK);
    assert_true(readable(&q));
    assert_int_equal(kf_queue_pop(&q, &got, 0), KF_OK);
    assert_true(readable(&q));
    assert_int_equal(kf_queue_pop(&q, &got, 0), KF_OK);
    assert_false(readable(&q));
    kf_queue_close(&q);
    assert_true(readable(&q)); /* a poller must learn of it */
    kf_queue_free(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_full_and_closed),
        cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
