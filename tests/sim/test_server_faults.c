/* Aim: what goes wrong under a server hurts whom it must and nobody else: a device that is slow to say it is done,
 * blocks that run out, NaN in one text or one reply, a device that dies, an arena that fills up. Method: the CPU
 * device's table of operations with an entry or two replaced, texts compared with those of a server in which nothing
 * goes wrong. */
#include "sim/rig.h"

#include <stdatomic.h>

#include "observe/metrics.h"

static struct kf_device_ops ops;           /* the table with its faults */
static const struct kf_device_ops *honest; /* the CPU's */
static atomic_int countdown;               /* to the fault; below 0: it has happened */

enum { N = 48, MAX_TOKENS = 40 };
static char alone[N_TEXTS][2048];

static void replace_table(kf_device *d) {
    honest = d->ops;
    ops = *honest;
    d->ops = &ops;
}

static int answers_of_a_quiet_day(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 1);
    for (int i = 0; i < N_TEXTS; i++) {
        kf_server_submit(r->server, request(r, i, texts[i], MAX_TOKENS));
        wait_finals(r, 1);
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
        snprintf(alone[i], sizeof alone[i], "%s", r->answers[i].text);
    }
    end(r);
    return 0;
}

static void submit_all(rig *r) {
    for (int i = 0; i < N; i++)
        kf_server_submit(r->server, request(r, i, texts[i % N_TEXTS], MAX_TOKENS));
}

/* ---- a device that is never done before it is waited for: every run is planned ahead of the results before it ---- */

static struct {
    kf_event *recorded[64];
    size_t n;
} under_way; /* the device thread's, once it has been started */

static size_t find_event(const kf_event *e) {
    size_t i = 0;
    while (i < under_way.n && under_way.recorded[i] != e)
        i++;
    return i;
}

static kf_status record(kf_stream *s, kf_event *e) {
    if (find_event(e) == under_way.n) under_way.recorded[under_way.n++] = e;
    return honest->event_record(s, e);
}

static kf_status wait_for(kf_event *e) {
    size_t i = find_event(e);
    if (i < under_way.n) under_way.recorded[i] = under_way.recorded[--under_way.n];
    return honest->event_wait(e);
}

static bool is_done(kf_event *e) {
    return find_event(e) == under_way.n;
}

static void asynchronous(kf_device *d) {
    replace_table(d);
    ops.event_record = record;
    ops.event_wait = wait_for;
    ops.event_done = is_done;
    under_way.n = 0;
}

/* The second gap is so short that the texts go in many passes, one begun while the one before is not read yet. */
static void planned_ahead(void **state) {
    (void)state;
    static const double gaps_ms[] = {150, 0.05};
    for (int g = 0; g < 2; g++) {
        rig *r = start_with((rig_opts){
            .device = "cpu",
            .n_jobs = N,
            .max_running = 6,
            .max_gap_ms = gaps_ms[g],
            .faults = asynchronous,
        });
        submit_all(r);
        wait_finals(r, N);
        for (int i = 0; i < N; i++)
            assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
        wait_empty(r);
        end(r);
    }
}

/* ---- blocks for little more than one sequence, and six that want them ---- */

static void blocks_run_out(void **state) {
    (void)state;
    void (*faults[])(kf_device * d) = {NULL, asynchronous};
    size_t block_bytes = TINY_LAYERS * 2 * 16 * 16 * sizeof(float);
    for (int f = 0; f < 2; f++) {
        double before = kf_metric_read(KF_M_PREEMPTIONS, 0);
        rig *r = start_with((rig_opts){
            .device = "cpu",
            .n_jobs = N,
            .max_running = 6,
            .kv_cache_bytes = 11 * block_bytes,
            .faults = faults[f],
        });
        kf_server_state s;
        kf_server_state_get(r->server, &s);
        assert_int_equal(s.kv_blocks, 11);
        submit_all(r);
        wait_finals(r, N);
        for (int i = 0; i < N; i++)
            assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
        wait_empty(r);
        end(r);
        assert_true(kf_metric_read(KF_M_PREEMPTIONS, 0) > before);
    }
}

/* ---- a row of logits that is not finite ---- */

static void sample_not_finite(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                              const kf_sampler *sm, size_t n_rows) {
    honest->sample(s, out, logits, params, sm, n_rows);
    if (atomic_fetch_sub(&countdown, 1) == 0) out[n_rows - 1].finite = 0;
}

static void not_finite_once(kf_device *d) {
    replace_table(d);
    ops.sample = sample_not_finite;
}

static void one_reply_is_not_finite(void **state) {
    (void)state;
    atomic_store(&countdown, 1000000);
    rig *r = start_with((rig_opts){.device = "cpu", .n_jobs = N, .max_running = 6, .faults = not_finite_once});
    atomic_store(&countdown, 30);
    submit_all(r);
    wait_finals(r, N);
    int n_failed = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
        if (r->answers[i].finish == KF_FINISH_FAILED) {
            n_failed++;
            assert_true(r->answers[i].handoff);
        } else {
            assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
        }
    }
    assert_int_equal(n_failed, 1);
    end(r);
}

static void embed_not_finite(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b) {
    honest->embed_bert(s, out, e, hidden, b);
    if (atomic_fetch_sub(&countdown, 1) == 0) *(float *)out = NAN; /* the pass's first text */
}

static void embedding_not_finite_once(kf_device *d) {
    replace_table(d);
    ops.embed_bert = embed_not_finite;
}

static void one_text_is_not_finite(void **state) {
    (void)state;
    atomic_store(&countdown, 1000000);
    rig *r =
        start_with((rig_opts){.device = "cpu", .n_jobs = N, .max_running = 6, .faults = embedding_not_finite_once});
    double before = kf_metric_read(KF_M_NON_FINITE, 0);
    atomic_store(&countdown, 0);
    submit_all(r);
    wait_finals(r, N);
    int n_failed = 0;
    for (int i = 0; i < N; i++) {
        if (r->answers[i].code == KF_CODE_INTERNAL)
            n_failed++;
        else
            assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
    }
    assert_int_equal(n_failed, 1);
    assert_true(kf_metric_read(KF_M_NON_FINITE, 0) == before + 1);
    end(r);
}

/* ---- a device that dies ---- */

static kf_status wait_in_vain(kf_event *e) {
    if (atomic_fetch_sub(&countdown, 1) <= 0) return KF_FAIL(KF_ERR_DEVICE, "device: the plug was pulled");
    return honest->event_wait(e);
}

static void dies(kf_device *d) {
    replace_table(d);
    ops.event_wait = wait_in_vain;
}

static void device_dies(void **state) {
    (void)state;
    for (int after = 0; after < 40; after += 3) {
        atomic_store(&countdown, 1000000);
        rig *r = start_with((rig_opts){.device = "cpu", .n_jobs = N, .max_running = 6, .faults = dies});
        atomic_store(&countdown, after);
        submit_all(r);
        expect_lost(r, N, alone, N_TEXTS);
        end(r);
    }
}

/* An idle device that has died is noticed by the probe. */
static void idle_device_dies(void **state) {
    (void)state;
    atomic_store(&countdown, 1000000);
    rig *r = start_with((rig_opts){.device = "cpu", .n_jobs = 8, .max_running = 2, .faults = dies});
    atomic_store(&countdown, 0);
    kf_server_state s;
    int64_t until = kf_clock_now_ns() + 10000000000;
    do {
        usleep(10000);
        kf_server_state_get(r->server, &s);
    } while (!s.device_failed && kf_clock_now_ns() < until);
    assert_true(s.device_failed);
    end(r);
}

static void idle_device_moves(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 2);
    kf_server_state s;
    kf_server_state_get(r->server, &s);
    int64_t first = s.device_moved_ns, until = kf_clock_now_ns() + 10000000000;
    do {
        usleep(10000);
        kf_server_state_get(r->server, &s);
    } while (s.device_moved_ns == first && kf_clock_now_ns() < until);
    assert_true(s.device_moved_ns > first);
    end(r);
}

/* ---- a job's memory fills up: at submit, and on the device thread while the text is understood ---- */

static void arena_fills_up(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 2);
    int n_ok = 0, n_refused = 0;
    for (size_t left = 0; left < 12000; left += 112) {
        kf_job *job = request(r, 0, texts[0], 16);
        memset(&r->answers[0], 0, sizeof r->answers[0]);
        kf_arena *a = &job->arena;
        assert_non_null(kf_arena_alloc(a, a->bytes_cap - a->bytes_used - 16 - left));
        kf_server_submit(r->server, job);
        wait_finals(r, 1);
        n_ok += r->answers[0].code == KF_CODE_OK;
        n_refused += r->answers[0].code == KF_CODE_RESOURCE_EXHAUSTED;
        if (r->answers[0].code == KF_CODE_RESOURCE_EXHAUSTED) assert_true(strlen(r->answers[0].message) > 0);
    }
    assert_int_equal(n_ok + n_refused, 108);
    assert_true(n_ok > 0 && n_refused > 0);
    end(r);
}

/* ---- everything at once ---- */

static uint64_t rng = 12345;

static unsigned draw(unsigned below) {
    rng ^= rng >> 12, rng ^= rng << 25, rng ^= rng >> 27;
    return (unsigned)((rng * 0x2545F4914F6CDD1Du >> 33) % below);
}

static void submit_any(rig *r, int number) {
    kf_job *job = request(r, number, texts[number % N_TEXTS], MAX_TOKENS);
    kf_request *q = &job->request;
    q->stream = draw(2);
    q->lane = (kf_lane)draw(KF_N_LANES);
    q->want = draw(6) ? KF_WANT_REPLY : KF_WANT_UNDERSTAND;
    if (draw(4) == 0) q->deadline_ns = kf_clock_now_ns() + 100000 * (int64_t)draw(300);
    if (draw(20) == 0) {
        job->admitted = KF_ERR_INVALID;
        job->refusal = str("no");
    }
    kf_server_submit(r->server, job);
}

/* Cancels, deadlines, lanes, parts, few blocks, results known late, a drain and a stop in the middle: each request gets
 * one final, and who gets an answer gets the answer of a quiet day. */
static void all_at_once(void **state) {
    (void)state;
    size_t block_bytes = TINY_LAYERS * 2 * 16 * 16 * sizeof(float);
    int n_answered = 0;
    for (int round = 0; round < 6; round++) {
        rig *r = start_with((rig_opts){
            .device = "cpu",
            .n_jobs = N,
            .max_running = 5,
            .kv_cache_bytes = 10 * block_bytes,
            .max_gap_ms = round % 2 ? 150 : 0.5,
            .faults = round % 3 ? asynchronous : NULL,
        });
        int n_sent = 0, n_got = 0, n_all = 500, stop_at = round == 5 ? 300 : n_all;
        while (n_sent < stop_at) {
            n_got += drain_outbox(r);
            if (n_sent - n_got == N) continue;
            submit_any(r, n_sent++);
            char id[16];
            snprintf(id, sizeof id, "%d", n_sent - (int)draw(20));
            if (draw(4) == 0) kf_server_cancel(r->server, str("default"), str(id));
        }
        if (round == 5) kf_server_stop(r->server);
        if (round == 4) kf_server_drain(r->server);
        wait_finals(r, n_sent - n_got);
        for (int i = 0; i < n_sent; i++) {
            const answer *a = &r->answers[i];
            assert_int_equal(a->n_finals, 1);
            if (a->code == KF_CODE_OK && a->completion_tokens) {
                n_answered++;
                assert_string_equal(a->text, alone[i % N_TEXTS]);
            }
            if (a->n_parts) assert_int_equal(strncmp(a->parts, alone[i % N_TEXTS], strlen(a->parts)), 0);
        }
        wait_empty(r);
        end(r);
    }
    assert_true(n_answered > 300);
}

int main(void) {
    models = tiny_models();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planned_ahead),
        cmocka_unit_test(blocks_run_out),
        cmocka_unit_test(one_reply_is_not_finite),
        cmocka_unit_test(one_text_is_not_finite),
        cmocka_unit_test(device_dies),
        cmocka_unit_test(idle_device_dies),
        cmocka_unit_test(idle_device_moves),
        cmocka_unit_test(arena_fills_up),
        cmocka_unit_test(all_at_once),
    };
    int failed = cmocka_run_group_tests(tests, answers_of_a_quiet_day, NULL);
    tiny_remove(models);
    return failed;
}
