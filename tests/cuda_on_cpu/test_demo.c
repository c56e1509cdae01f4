/* Aim: `kefud --device cuda` serves the demo's models with the answers of `--device cpu`, in f32. Method: kefud linked
 * with the CPU runner is asked the same questions on either device through a real broker: what was understood and the
 * reply's text must be equal, the scores within 1e-4. */
#include "e2e/broker.h"

#include <math.h>

static const char *const questions[] = {"我想要一件红色的羽绒服", "这件外套多少钱"};
enum { N = sizeof questions / sizeof *questions };

typedef struct run {
    broker b;
    worker w;
    client c;
} run;

static void ask_all(run *r, const char *device) {
    broker_start(&r->b, -1, NULL);
    worker_start(
        &r->w, r->b.url,
        (const char *[]){"--device", device, "--dtype", "f32", "--max-running", "2", "--deadline-ms", "3600000", NULL});
    worker_wait(&r->w, "/readyz", 200);
    client_open(&r->c, r->b.url);
    for (int i = 0; i < N; i++) {
        Kefu__V1__Request q = KEFU__V1__REQUEST__INIT;
        q.input_case = KEFU__V1__REQUEST__INPUT_TEXT;
        q.text = (char *)questions[i];
        client_send_request(&r->c, "kefu.request", i, &q);
    }
    if (!client_wait(&r->c, N, 240000)) fail_msg("%s: %d finals; log: %s", device, r->c.n_finals, file_text(r->w.log));
}

static void finish(run *r) {
    client_close(&r->c);
    assert_int_equal(worker_end(&r->w, SIGTERM, 60000), 0);
    worker_forget(&r->w);
    broker_stop(&r->b);
}

static void same_label(const Kefu__V1__Label *a, const Kefu__V1__Label *b) {
    assert_string_equal(a->label, b->label);
    assert_true(fabsf(a->score - b->score) < 1e-4f);
}

static void same_understanding(const Kefu__V1__Understanding *a, const Kefu__V1__Understanding *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    for (size_t i = 0; i < a->n_tokens; i++) {
        assert_string_equal(a->tokens[i]->text, b->tokens[i]->text);
        assert_string_equal(a->tokens[i]->pos, b->tokens[i]->pos);
    }
    assert_int_equal(a->n_entities, b->n_entities);
    for (size_t i = 0; i < a->n_entities; i++) {
        assert_string_equal(a->entities[i]->text, b->entities[i]->text);
        assert_string_equal(a->entities[i]->type, b->entities[i]->type);
    }
    assert_int_equal(a->n_intents, b->n_intents);
    assert_true(a->n_intents > 0);
    same_label(a->intents[0], b->intents[0]);
    same_label(a->sentiment, b->sentiment);
}

static void the_same_answers(void **state) {
    (void)state;
    needs_cpu_device();
    run cpu, cuda;
    ask_all(&cpu, "cpu");
    ask_all(&cuda, "cuda");
    assert_non_null(strstr(file_text(cuda.w.log), "\"event\":\"decoder_graph\",\"rows\":2"));
    for (int i = 0; i < N; i++) {
        const Kefu__V1__Response *a = cpu.c.answers[i].final, *b = cuda.c.answers[i].final;
        assert_int_equal(code_of(&cpu.c.answers[i]), 0);
        assert_int_equal(code_of(&cuda.c.answers[i]), 0);
        same_understanding(a->understanding, b->understanding);
        assert_true(strlen(a->reply->text) > 0);
        assert_string_equal(a->reply->text, b->reply->text);
        printf("%s\n  %s\n", questions[i], b->reply->text);
    }
    finish(&cpu);
    finish(&cuda);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
