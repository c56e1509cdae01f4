/* Aim: no tokenizer file and no text, whatever their bytes, make host/text read or write where it must not, or return
 * tokens that break its promises. Method: libFuzzer with AddressSanitizer and UBSan. An input is a file, a 0xFF byte
 * (which neither JSON nor UTF-8 has), and a text; a file that starts with { is tokenizer.json, any other vocab.txt.
 * The text also goes through two tokenizers that are whole, whatever became of the file. Seeds:
 * tests/fuzz/corpus/fuzz_tokenizer. Run it from the top of the clone.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

enum { CAP = 256, TEXT_MAX = 4096 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kf_tokenizer *small[2];

static void require(int holds) {
    if (!holds) abort();
}

static kf_status open_bytes(const char *file, size_t n, kf_tokenizer **out) {
    kf_tokenizer *t;
    KF_TRY(kf_tokenizer_new(&t));
    kf_status s;
    if (n && file[0] == '{') {
        json_t *root = json_loadb(file, n, JSON_ALLOW_NUL, NULL);
        s = json_is_object(root) ? kf_tokenizer_load_json(t, root) : KF_ERR_CORRUPT;
        json_decref(root);
    } else {
        s = kf_tokenizer_load_vocab(t, "vocab.txt", file, n, NULL);
    }
    if (s == KF_OK)
        *out = t;
    else
        kf_tokenizer_close(t);
    return s;
}

/* Spans lie in the text, in order of their starts but for special tokens; ids have pieces. */
static void check_encoding(const kf_tokenizer *t, const char *text, size_t n, size_t cap) {
    static int32_t ids[CAP], start[CAP], end[CAP];
    kf_encoding e = {.cap = cap, .ids = ids, .start = start, .end = end};
    kf_status s = kf_tokenizer_encode(t, text, n, KF_SPECIAL_ADD, &e);
    require((s == KF_ERR_INVALID) == !kf_utf8_valid(text, n, NULL));
    if (s != KF_OK) return;
    require(e.n <= cap && e.n <= e.n_total && (e.n == cap || e.n == e.n_total));
    int32_t n_cps = (int32_t)kf_utf8_length(text, n);
    for (size_t i = 0; i < e.n; i++) {
        require(start[i] >= 0 && start[i] <= end[i] && end[i] <= n_cps);
        require(kf_tokenizer_piece(t, ids[i]) != NULL);
    }
}

/* A stream gives what decoding at once gives, and both are UTF-8. The text's bytes are the ids. */
static void check_decoding(const kf_tokenizer *t, const uint8_t *bytes, size_t n) {
    static int32_t ids[CAP];
    static char at_once[1 << 17], part[1 << 17];
    size_t n_ids = n < CAP ? n : CAP, n_at_once, n_part = 0;
    for (size_t i = 0; i < n_ids; i++)
        ids[i] = bytes[i] == 255 ? -1 : bytes[i] * 2;
    if (kf_tokenizer_decode(t, ids, n_ids, true, at_once, sizeof at_once, &n_at_once) != KF_OK) return;
    kf_detokenizer d = {0};
    for (size_t i = 0; i < n_ids; i++) {
        require(kf_detokenizer_push(&d, t, ids[i], part, sizeof part, &n_part) == KF_OK);
        require(kf_utf8_valid(part, n_part, NULL));
    }
    require(kf_detokenizer_finish(&d, part, sizeof part, &n_part) == KF_OK);
    require(n_part == n_at_once && memcmp(part, at_once, n_at_once) == 0);
}

/* Leaves of the text what is UTF-8, so that broken bytes are no end of the matter. */
static size_t repair(const uint8_t *text, size_t n, char out[TEXT_MAX]) {
    size_t kept = 0, bad_at;
    for (size_t at = 0; at < n && kept < TEXT_MAX - 4;) {
        size_t take = n - at < TEXT_MAX - 4 - kept ? n - at : TEXT_MAX - 4 - kept;
        bool whole = kf_utf8_valid((const char *)text + at, take, &bad_at);
        size_t good = whole ? take : bad_at;
        memcpy(out + kept, text + at, good);
        kept += good;
        at += good + !whole;
    }
    return kept;
}

static void check_text(const kf_tokenizer *t, const uint8_t *text, size_t n) {
    static char repaired[TEXT_MAX];
    check_encoding(t, (const char *)text, n, CAP);
    size_t n_repaired = repair(text, n, repaired);
    check_encoding(t, repaired, n_repaired, CAP);
    check_encoding(t, repaired, n_repaired, 3);
    check_decoding(t, text, n);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const files[] = {"tests/golden/tokenizers/small/byte_level.json",
                                        "tests/golden/tokenizers/small/sentencepiece.json"};
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < 2; i++) {
        json_t *root = json_load_file(files[i], 0, NULL);
        require(kf_tokenizer_new(&small[i]) == KF_OK && kf_tokenizer_load_json(small[i], root) == KF_OK);
        json_decref(root);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *split = size ? memchr(data, 0xFF, size) : NULL;
    size_t n_file = split ? (size_t)(split - data) : size;
    const uint8_t *text = split ? split + 1 : data;
    size_t n = split ? size - n_file - 1 : size;
    kf_tokenizer *t;
    if (open_bytes((const char *)data, n_file, &t) == KF_OK) {
        check_text(t, text, n);
        kf_tokenizer_close(t);
    }
    for (size_t i = 0; i < 2; i++)
        check_text(small[i], text, n);
    return 0;
}
