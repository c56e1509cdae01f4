/* Aim: tokens become text: whole characters only, nothing of a stop string or after it, nothing of a thought and no
 * half of its tags, and what was said to be sendable is never taken back. Method: the tiny decoder's tokenizer, a token
 * a byte, so that every text can be fed byte by byte; cases by hand, then random texts and stop strings from a seed
 * against a plain search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "serve/writer.h"
#include "sim/tiny.h"
#include "text/utf8.h"

static kf_writer writer;
static kf_config config = {.eos_ids = {259}, .n_eos = 1};

typedef struct reply {
    kf_job_impl job;
    int32_t ids[512];
    char text[1024];
    kf_str stops[3];
} reply;

static void begin(reply *r, size_t max_new, const char *const *stops, size_t n_stops) {
    memset(r, 0, sizeof *r);
    r->job.ids = r->ids;
    r->job.reply = r->text;
    r->job.reply_cap = sizeof r->text - 1;
    r->job.max_new = max_new;
    for (size_t i = 0; i < n_stops; i++)
        r->stops[i] = (kf_str){stops[i], strlen(stops[i])};
    r->job.job.request.generate = (kf_generate){.stop = r->stops, .n_stop = n_stops};
}

/* Feeds bytes until the reply is over or they are; checks what may be sent at each step. Returns whether it is over. */
static bool feed(reply *r, const char *bytes, size_t n) {
    char sent[1024];
    size_t n_sent = 0;
    bool over = false;
    for (size_t i = 0; i < n && !over; i++) {
        over = kf_writer_add(&writer, &r->job, (unsigned char)bytes[i], -1);
        assert_true(r->job.n_sendable >= n_sent && r->job.n_sendable <= r->job.n_reply);
        assert_memory_equal(sent, r->text, n_sent);
        assert_true(kf_utf8_valid(r->text, r->job.n_sendable, NULL));
        n_sent = r->job.n_sendable;
        memcpy(sent, r->text, n_sent);
    }
    return over;
}

static void whole_characters(void **state) {
    (void)state;
    reply r;
    begin(&r, 100, NULL, 0);
    assert_false(feed(&r, "\xE4\xBD", 2));
    assert_int_equal(r.job.n_sendable, 0);
    assert_false(feed(&r, "\xA0", 1));
    assert_int_equal(r.job.n_sendable, 3);
    assert_false(feed(&r, "\xE5\xA5", 2));
    assert_true(kf_writer_add(&writer, &r.job, 259, -1)); /* the end token, in the middle of a character */
    assert_string_equal(r.text, "你\xEF\xBF\xBD");
    assert_int_equal(r.job.finish, KF_FINISH_STOP);
    assert_int_equal(r.job.n_written, 5); /* the end token is not of the reply */
}

static void no_nul(void **state) {
    (void)state;
    reply r;
    const char *stops[] = {"bc"};
    begin(&r, 100, stops, 1);
    assert_true(feed(&r, "a\0\0b\0cd", 7));
    assert_string_equal(r.text, "a");
    assert_int_equal(r.job.n_reply, 1);
    assert_int_equal(r.job.n_written, 6);
}

static void limits(void **state) {
    (void)state;
    reply r;
    begin(&r, 4, NULL, 0);
    assert_true(feed(&r, "abcdef", 6));
    assert_string_equal(r.text, "abcd");
    assert_int_equal(r.job.finish, KF_FINISH_LENGTH);
    begin(&r, 100, NULL, 0);
    r.job.reply_cap = 2;
    assert_true(feed(&r, "abcdef", 6));
    assert_string_equal(r.text, "ab");
    assert_int_equal(r.job.finish, KF_FINISH_LENGTH);
}

static void stop_strings(void **state) {
    (void)state;
    static const struct {
        const char *stop, *other, *fed, *want;
        bool over;
    } cases[] = {
        {"END", NULL, "abcENDdef", "abc", true},  {"END", NULL, "ENDdef", "", true},
        {"END", NULL, "abcEN", "abcEN", false},   {"aab", NULL, "xaaaab", "xaa", true},
        {"cd", "bcde", "abcdef", "ab", true},     {"bcdx", "cd", "abcdef", "ab", true},
        {"。", NULL, "好的。谢谢", "好的", true}, {"\n", NULL, "好\n的", "好", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reply r;
        const char *stops[] = {cases[i].stop, cases[i].other};
        begin(&r, 100, stops, cases[i].other ? 2 : 1);
        assert_int_equal(feed(&r, cases[i].fed, strlen(cases[i].fed)), cases[i].over);
        if (!cases[i].over) kf_writer_end(&r.job, KF_FINISH_STOP);
        assert_string_equal(r.text, cases[i].want);
        assert_int_equal(r.job.finish, KF_FINISH_STOP);
    }
}

static void held_back(void **state) {
    (void)state;
    reply r;
    const char *stops[] = {"END"};
    begin(&r, 100, stops, 1);
    feed(&r, "abE", 3);
    assert_int_equal(r.job.n_sendable, 2);
    feed(&r, "N", 1);
    assert_int_equal(r.job.n_sendable, 2);
    feed(&r, "x", 1);
    assert_int_equal(r.job.n_sendable, 5);
}

static uint64_t rng = 99;

static unsigned draw(unsigned below) {
    rng ^= rng >> 12, rng ^= rng << 25, rng ^= rng >> 27;
    return (unsigned)((rng * 0x2545F4914F6CDD1Du >> 33) % below);
}

static void random_text(char *out, unsigned max_chars) {
    static const char *const chars[] = {"a", "b", "好", "的"};
    *out = 0;
    for (unsigned n = 1 + draw(max_chars); n > 0; n--)
        strcat(out, chars[draw(4)]);
}

/* The reply is the text before the first place at which a stop string is complete, as that byte is the first to end
 * one; of several that end there, before the one that starts first. */
static size_t plain_search(const char *text, char (*stops)[16], size_t n_stops) {
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t first = end;
        for (size_t i = 0; i < n_stops; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && !memcmp(text + end - n, stops[i], n) && end - n < first) first = end - n;
        }
        if (first < end) return first;
    }
    return strlen(text);
}

static void against_plain_search(void **state) {
    (void)state;
    for (int i = 0; i < 20000; i++) {
        reply r;
        char text[128], stops[3][16];
        const char *pointers[] = {stops[0], stops[1], stops[2]};
        size_t n_stops = draw(4);
        for (size_t k = 0; k < n_stops; k++)
            random_text(stops[k], 4);
        random_text(text, 30);
        begin(&r, 500, pointers, n_stops);
        if (!feed(&r, text, strlen(text))) kf_writer_end(&r.job, KF_FINISH_STOP);
        assert_int_equal(r.job.n_reply, plain_search(text, stops, n_stops));
        assert_memory_equal(r.text, text, r.job.n_reply);
    }
}

/* ---- thoughts ---- */

static void thoughts_are_dropped(void **state) {
    (void)state;
    static const struct {
        const char *fed, *want;
        bool in_thought;
    } cases[] = {
        {"<think>\nhm\n</think>\n\n好的", "好的", false},
        {"hm\n</think>\n\n好的", "好的", true}, /* the prompt ended in <think> */
        {"<think></think>a<think>b</think> c", "ac", false},
        {"a<b <thin> <think", "a<b <thin> ", false},
        {"a<", "a<", false},
        {"a<t", "a", false},
        {"<think>all thought, no end", "", false},
        {"<think>x</thin</think>y", "y", false},
        {"<<think>x</think>y", "<y", false},
        {"</think>a", "</think>a", false},
        {"<think>a<think>b</think>c", "c", false},
        {"<think>x</think> \n ", "", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reply r;
        begin(&r, 200, NULL, 0);
        r.job.hides_thoughts = true;
        r.job.in_thought = cases[i].in_thought;
        assert_false(feed(&r, cases[i].fed, strlen(cases[i].fed)));
        kf_writer_end(&r.job, KF_FINISH_STOP);
        assert_string_equal(r.text, cases[i].want);
    }
    reply shown;
    begin(&shown, 200, NULL, 0);
    feed(&shown, "<think>a</think>b", 17);
    assert_int_equal(shown.job.n_sendable, 17);
}

/* Tags, halves of them, and a stop string that a thought may part. */
static void random_thoughts(char *out) {
    static const char *const parts[] = {"<think>", "</think>", "<thi", "</t", "<", "a", "\n", "E", "ND", "好"};
    *out = 0;
    for (unsigned n = 1 + draw(14); n > 0; n--)
        strcat(out, parts[draw(10)]);
}

static size_t without_thoughts(const char *text, char *out) {
    size_t n = 0, last = 0; /* what is before the last thought has been read as text */
    bool thought = false, after = false;
    while (*text) {
        const char *tag = thought ? "</think>" : "<think>";
        if (!strncmp(text, tag, strlen(tag))) {
            text += strlen(tag);
            after = thought;
            thought = !thought;
            last = n;
            continue;
        }
        after = after && strchr(" \t\r\n", *text);
        if (!thought && !after) out[n++] = *text;
        text++;
    }
    out[n] = 0;
    for (size_t half = 6; !thought && half > 1; half--)
        if (n >= last + half && !strncmp(out + n - half, "<think>", half)) return n - half;
    return n;
}

static void thoughts_against_plain_search(void **state) {
    (void)state;
    for (int i = 0; i < 50000; i++) {
        reply r;
        char text[256], plain[256], stop[][16] = {"END"};
        const char *pointers[] = {stop[0]};
        random_thoughts(text);
        begin(&r, 500, pointers, 1);
        r.job.hides_thoughts = true;
        if (!feed(&r, text, strlen(text))) kf_writer_end(&r.job, KF_FINISH_STOP);
        plain[without_thoughts(text, plain)] = 0;
        size_t n = plain_search(plain, stop, 1);
        if (r.job.n_reply != n || memcmp(r.text, plain, n))
            fail_msg("`%s`: came `%s`, wanted `%s`", text, r.text, plain);
    }
}

int main(void) {
    char *models = tiny_models(), dir[256];
    snprintf(dir, sizeof dir, "%s/decoder", models);
    kf_tokenizer *tokenizer;
    kf_prompt *prompt;
    if (kf_tokenizer_open(dir, &tokenizer) != KF_OK || kf_prompt_open(dir, tokenizer, &prompt) != KF_OK) {
        fprintf(stderr, "%s\n", kf_error_text());
        return 1;
    }
    writer = (kf_writer){tokenizer, prompt, &config};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_characters),
        cmocka_unit_test(no_nul),
        cmocka_unit_test(limits),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(held_back),
        cmocka_unit_test(against_plain_search),
        cmocka_unit_test(thoughts_are_dropped),
        cmocka_unit_test(thoughts_against_plain_search),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kf_prompt_close(prompt);
    kf_tokenizer_close(tokenizer);
    tiny_remove(models);
    return failed;
}
