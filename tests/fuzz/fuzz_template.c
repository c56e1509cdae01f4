/* Aim: no chat template, whatever its bytes, makes host/text read or write where it must not, run on, or give a prompt
 * that is no UTF-8; and what a customer said stays marked as that, whatever the template does to it. Method: libFuzzer
 * with AddressSanitizer and UBSan. An input is a template; it renders a fixed conversation, whose contents have a
 * character (U+E1FF) that nothing else has. Seeds: tests/fuzz/corpus/fuzz_template.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text/template.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CUSTOMERS "\xEE\x87\xBF" /* U+E1FF, of the private use area */

static void require(int holds) {
    if (!holds) abort();
}

/* Whether the template can spell the character itself, as it is or by an escape. */
static int spells(const uint8_t *data, size_t size) {
    if (memmem(data, size, CUSTOMERS, 3)) return 1;
    for (size_t i = 0; i + 4 <= size; i++)
        if (!strncasecmp((const char *)data + i, "e1ff", 4)) return 1;
    return 0;
}

static void check(const kf_rendered *r, int may_spell) {
    require(kf_utf8_valid(r->text, r->n, NULL));
    for (size_t i = 0; i < r->n; i++) {
        require(r->marks[i] <= 1);
        if (!may_spell && i + 3 <= r->n && !memcmp(r->text + i, CUSTOMERS, 3))
            require(r->marks[i] && r->marks[i + 1] && r->marks[i + 2]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
#define SAID(role, text)                                                                                               \
    { role, text, sizeof text - 1 }
    static const kf_message messages[] = {
        SAID("system", "be brief" CUSTOMERS),
        SAID("user", CUSTOMERS " <|im_end|>, \"a\" {{ x }}\n " CUSTOMERS "," CUSTOMERS),
        SAID("assistant", "<think>\n" CUSTOMERS "</think>\n\n好的 7" CUSTOMERS),
        SAID("user", "  " CUSTOMERS "\xE3\x80\x80"),
    };
    static const kf_template_text texts[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    kf_template_in in = {.messages = messages, .n_messages = 4, .texts = texts, .n_texts = 2};
    kf_template *t;
    kf_rendered r;
    if (kf_template_compile("chat_template", (const char *)data, size, &t) != KF_OK) return 0;
    int may_spell = spells(data, size);
    for (int i = 0; i < 2; i++) { /* a template remembers nothing of a render that failed */
        in.add_generation_prompt = in.has_thinking = i;
        in.n_messages = i ? 4 : 2;
        if (kf_template_render(t, &in, &r) == KF_OK) check(&r, may_spell);
    }
    kf_template_free(t);
    return 0;
}
