/* Aim: the dialogue asks for the right thing and always ends, once, with an outcome; the policy answers, asks back,
 * calls a person or keeps silent as policy.h says. Method: cases worked out by hand, then ten thousand random dialogues
 * from a seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "dialogue/dialogue.h"
#include "text/utf8.h"

static kf_policy policy;
static kf_arena arena;

static kf_str str(const char *s) {
    return (kf_str){.s = s, .n = strlen(s)};
}

static kf_understanding understood(const char *first, float p1, const char *second, float p2) {
    static kf_label labels[2];
    labels[0] = (kf_label){.label = first, .score = p1};
    labels[1] = (kf_label){.label = second, .score = p2};
    return (kf_understanding){.intents = labels, .n_intents = 2, .confidence = p1, .sentiment = {.label = "neutral"}};
}

/* A dialogue up to what follows its understanding. Returns the wants. */
static unsigned hear(kf_dialogue *d, const char *text, const kf_turn *history, size_t n_history,
                     const kf_understanding *u) {
    kf_arena_reset(&arena);
    kf_dialogue_begin(d, &(kf_dialogue_in){&policy, &arena, str(text), history, n_history, true, true});
    assert_int_equal(kf_dialogue_step(d, &(kf_dialogue_event){.kind = KF_EV_ADMITTED}), KF_DO_ENCODE);
    return kf_dialogue_step(d, &(kf_dialogue_event){.kind = KF_EV_UNDERSTOOD, .understood = u});
}

static unsigned write_reply(kf_dialogue *d, const char *text, kf_finish finish) {
    kf_dialogue_event e = {.kind = KF_EV_WRITTEN};
    e.written.text = str(text);
    e.written.finish = finish;
    return kf_dialogue_step(d, &e);
}

static void answers(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("purchase", 0.9f, "stock", 0.05f);
    assert_int_equal(hear(&d, "我想要一件红色的羽绒服", NULL, 0, &u), KF_DO_GENERATE);
    assert_int_equal(write_reply(&d, "好的，您要长款还是短款？", KF_FINISH_STOP), KF_DO_FINISH);
    assert_string_equal(d.reply.s, "好的，您要长款还是短款？");
    assert_int_equal(d.finish, KF_FINISH_STOP);
    assert_false(d.handoff.reason);
    assert_int_equal(write_reply(&d, "again", KF_FINISH_STOP), 0); /* it has ended */
}

static void understanding_alone(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("human_agent", 0.9f, "stock", 0.05f);
    kf_dialogue_begin(&d, &(kf_dialogue_in){&policy, &arena, str("转人工"), NULL, 0, false, true});
    assert_int_equal(kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_ADMITTED}), KF_DO_ENCODE);
    assert_int_equal(kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_UNDERSTOOD, .understood = &u}),
                     KF_DO_FINISH);
    assert_string_equal(d.reply.s, "");
    assert_false(d.handoff.reason);
}

static void asks_back_once(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("exchange", 0.2f, "return_refund", 0.18f);
    assert_int_equal(hear(&d, "那个不行", NULL, 0, &u), KF_DO_FINISH);
    assert_string_equal(d.reply.s, "您是想换货，还是想退货退款呢？");
    assert_false(d.handoff.reason);
    char asked[128];
    snprintf(asked, sizeof asked, "%s", d.reply.s);
    kf_turn history[] = {{KF_ROLE_USER, str("那个不行")}, {KF_ROLE_ASSISTANT, str(asked)}};
    assert_int_equal(hear(&d, "就是不行", history, 2, &u), KF_DO_GENERATE);
    assert_true(d.handoff.reason);
    assert_string_equal(kf_handoff_name(d.handoff.reason), "low_confidence");
}

/* The question names what the customer named: 黑色的保温杯, not 42码 further away. */
static void asks_about_the_thing(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("stock", 0.2f, "exchange", 0.18f);
    kf_entity e[] = {{.type = "attribute", .text = str("大"), .start = 0, .end = 1},
                     {.type = "brand", .text = str("乐扣"), .start = 4, .end = 6},
                     {.type = "attribute", .text = str("黑色"), .start = 6, .end = 8},
                     {.type = "product", .text = str("保温杯"), .start = 9, .end = 12}};
    u.entities = e;
    u.n_entities = 4;
    assert_int_equal(hear(&d, "大的还是乐扣黑色的保温杯", NULL, 0, &u), KF_DO_FINISH);
    assert_string_equal(d.reply.s, "关于乐扣黑色的保温杯，您是想问有没有货，还是想换货呢？");
    char asked[128];
    snprintf(asked, sizeof asked, "%s", d.reply.s);
    kf_turn history[] = {{KF_ROLE_USER, str("保温杯")}, {KF_ROLE_ASSISTANT, str(asked)}};
    assert_int_equal(hear(&d, "大的还是乐扣黑色的保温杯", history, 2, &u), KF_DO_GENERATE);
    u.entities = e + 2;
    u.n_entities = 1;
    hear(&d, "要不要换黑色", NULL, 0, &u);
    assert_string_equal(d.reply.s, "关于黑色，您是想问有没有货，还是想换货呢？");
    u.entities = e;
    hear(&d, "大的", NULL, 0, &u);
    assert_string_equal(d.reply.s, "您是想问有没有货，还是想换货呢？");
}

/* An intent without a title cannot be asked about: the decoder writes. */
static void does_not_ask_about_everything(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("out_of_scope", 0.2f, "return_refund", 0.18f);
    assert_int_equal(hear(&d, "呃", NULL, 0, &u), KF_DO_GENERATE);
}

static void calls_a_person(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("human_agent", 0.9f, "stock", 0.05f);
    assert_int_equal(hear(&d, "转人工，电话13812345678", NULL, 0, &u), KF_DO_GENERATE);
    assert_int_equal(write_reply(&d, "好的，马上为您转接同事。", KF_FINISH_STOP), KF_DO_FINISH);
    assert_true(d.handoff.reason);
    assert_string_equal(kf_handoff_name(d.handoff.reason), "asked");
    assert_non_null(strstr(d.handoff.summary.s, "转人工"));
    assert_null(strstr(d.handoff.summary.s, "13812345678"));
    u = understood("complaint", 0.8f, "stock", 0.05f);
    hear(&d, "骗子", NULL, 0, &u);
    assert_string_equal(kf_handoff_name(d.handoff.reason), "complaint");
    u = understood("complaint", 0.35f, "stock", 0.05f); /* not sure enough */
    hear(&d, "骗子", NULL, 0, &u);
    assert_false(d.handoff.reason);
}

/* A bot that goes on talking after the hand-off is what users complain of. */
static void leaves_it_to_the_colleague(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("purchase", 0.9f, "stock", 0.05f);
    kf_turn history[] = {{KF_ROLE_USER, str("转人工")}, {KF_ROLE_AGENT, str("您好，我是小王")}};
    assert_int_equal(hear(&d, "我想要红色的", history, 2, &u), KF_DO_FINISH);
    assert_string_equal(d.reply.s, "");
    assert_string_equal(kf_handoff_name(d.handoff.reason), "agent_has_it");
    assert_int_equal(hear(&d, "机器人，我想要红色的", history, 2, &u), KF_DO_GENERATE);
    kf_turn later[] = {history[0], history[1], {KF_ROLE_USER, str("好")}, {KF_ROLE_ASSISTANT, str("在的")}};
    assert_int_equal(hear(&d, "我想要红色的", later, 4, &u), KF_DO_GENERATE);
}

static void checks_what_was_written(void **state) {
    (void)state;
    static const struct {
        const char *text;
        kf_finish finish;
    } bad[] = {{"", KF_FINISH_STOP},       {" \n\xE3\x80\x80", KF_FINISH_STOP},  {"\xEF\xBF\xBD", KF_FINISH_LENGTH},
               {"好的", KF_FINISH_FAILED}, {"好的<|user|>退款", KF_FINISH_STOP}, {"\xE4\xBD", KF_FINISH_STOP}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kf_dialogue d;
        kf_understanding u = understood("exchange", 0.9f, "return_refund", 0.05f);
        hear(&d, "换大一号", NULL, 0, &u);
        assert_int_equal(write_reply(&d, bad[i].text, bad[i].finish), KF_DO_FINISH);
        assert_string_equal(d.reply.s, "您是想换货，还是想退货退款呢？");
        assert_int_equal(d.finish, KF_FINISH_FAILED);
        assert_string_equal(kf_handoff_name(d.handoff.reason), "no_reply");
    }
}

static void without_a_decoder(void **state) {
    (void)state;
    kf_dialogue d;
    kf_understanding u = understood("purchase", 0.9f, "stock", 0.05f);
    kf_dialogue_begin(&d, &(kf_dialogue_in){&policy, &arena, str("想要"), NULL, 0, true, false});
    kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_ADMITTED});
    assert_int_equal(kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_UNDERSTOOD, .understood = &u}),
                     KF_DO_FINISH);
    assert_string_equal(kf_handoff_name(d.handoff.reason), "no_decoder");
}

/* ---- from a seed ---- */

static uint64_t rng = 4711;

static unsigned draw(unsigned below) {
    rng ^= rng >> 12, rng ^= rng << 25, rng ^= rng >> 27;
    return (unsigned)((rng * 0x2545F4914F6CDD1Du >> 33) % below);
}

static const char *pick(const char *const *from, size_t n) {
    return from[draw((unsigned)n)];
}
#define PICK(list) pick(list, sizeof list / sizeof *list)

static void ends_once(void **state) {
    (void)state;
    static const char *const texts[] = {"", "退货", "机器人", "转人工 13812345678", "在吗在吗", "\xF0\x9F\x98\x80"};
    static const char *const intents[] = {"purchase", "exchange", "complaint", "human_agent", "greeting", "unknown"};
    static const char *const replies[] = {"", "好的", " ", "<|end|>", "您好", "\xFF"};
    for (int i = 0; i < 10000; i++) {
        kf_turn history[4];
        size_t n_history = draw(5);
        for (size_t k = 0; k < n_history; k++)
            history[k] = (kf_turn){(kf_role)draw(3), str(PICK(texts))};
        kf_understanding u = understood(PICK(intents), (float)draw(100) / 100, PICK(intents), (float)draw(100) / 200);
        u.n_intents = draw(3);
        kf_dialogue d;
        kf_arena_reset(&arena);
        kf_dialogue_begin(
            &d, &(kf_dialogue_in){&policy, &arena, str(PICK(texts)), history, n_history, draw(4) != 0, draw(4) != 0});
        int n_finish = 0;
        unsigned wants = kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_ADMITTED});
        for (int steps = 0; wants && steps < 10; steps++) {
            n_finish += (wants & KF_DO_FINISH) != 0;
            if (wants & KF_DO_ENCODE)
                wants = kf_dialogue_step(&d, &(kf_dialogue_event){.kind = KF_EV_UNDERSTOOD, .understood = &u});
            else if (wants & KF_DO_GENERATE)
                wants = write_reply(&d, PICK(replies), (kf_finish)(1 + draw(4)));
            else
                wants = write_reply(&d, "again", KF_FINISH_STOP);
        }
        assert_int_equal(wants, 0);
        assert_int_equal(n_finish, 1);
        assert_true(kf_utf8_valid(d.reply.s, d.reply.n, NULL));
        assert_int_equal(d.reply.n, strlen(d.reply.s));
        assert_true(d.handoff.reason < KF_N_HANDOFFS && !d.handoff.reason == !*kf_handoff_name(d.handoff.reason));
    }
}

/* ---- policy.json ---- */

static kf_status load_text(const char *text, kf_policy *out) {
    char path[] = "/tmp/kefu-policy-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    kf_status s = kf_policy_load(path, out);
    unlink(path);
    return s;
}

static void files(void **state) {
    (void)state;
    kf_policy p;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"ask_back_below\": 2}",
                                      "{\"ask_back\": \"您是想{second}还是{first}\"}",
                                      "{\"ask_back\": 3}",
                                      "{\"ask_back_about\": \"x\"}",
                                      "{\"bot_names\": [3]}",
                                      "{\"intents\": {\"x\": {\"handoff\": \"whim\"}}}",
                                      "{\"intents\": {\"x\": {\"title\": 1}}}",
                                      "{\"intents\": {\"x\": 1}}",
                                      "{\"intents\": {\"x\": {\"titel\": \"y\"}}}",
                                      "{\"intents\": []}",
                                      "{\"bot_names\": \"x\"}",
                                      "{\"a\": 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(load_text(bad[i], &p), KF_ERR_CORRUPT);
    assert_non_null(strstr(kf_error_text(), "has \"a\", which nothing reads; there are ask_back_below, handoff_from"));
    assert_int_equal(load_text("{}", &p), KF_OK);
    assert_int_equal(p.n_intents, 0);
    kf_policy_free(&p);
    assert_int_equal(kf_policy_load("/nowhere/policy.json", &p), KF_OK);
    assert_int_equal(p.n_intents, 2);
    assert_string_equal(kf_handoff_name(p.intents[1].handoff), "complaint");
    kf_policy_free(&p);
}

int main(void) {
    if (kf_policy_load(KF_SOURCE_DIR "/models/policy.json", &policy) != KF_OK) {
        fprintf(stderr, "%s\n", kf_error_text());
        return 1;
    }
    if (kf_arena_init(&arena, 64 << 10) != KF_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(understanding_alone),
        cmocka_unit_test(asks_back_once),
        cmocka_unit_test(asks_about_the_thing),
        cmocka_unit_test(does_not_ask_about_everything),
        cmocka_unit_test(calls_a_person),
        cmocka_unit_test(leaves_it_to_the_colleague),
        cmocka_unit_test(checks_what_was_written),
        cmocka_unit_test(without_a_decoder),
        cmocka_unit_test(ends_once),
        cmocka_unit_test(files),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kf_policy_free(&policy);
    kf_arena_free(&arena);
    return failed;
}
