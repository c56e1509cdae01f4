/* The normalizer and pre_tokenizer of a byte-level tokenizer.json. */
#include <string.h>

#include <utf8proc.h>

#include "text/bert_chars.h"
#include "text/tokenizer_impl.h"

#define PRE "tokenizer.json: pre_tokenizer"

kf_status kf_tokenizer_load_normalizer(kf_byte_level *b, const json_t *normalizer) {
    const char *type = kf_json_type(normalizer);
    const json_t *parts = json_object_get(normalizer, "normalizers");
    if (strcmp(type, "null") == 0) return KF_OK;
    if (strcmp(type, "Sequence") == 0 && json_array_size(parts) == 0) return KF_OK;
    if (strcmp(type, "Sequence") == 0 && json_array_size(parts) == 1) {
        normalizer = json_array_get(parts, 0);
        type = kf_json_type(normalizer);
    }
    if (strcmp(type, "NFC") != 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: normalizer %.40s is not known for BPE: NFC is", type);
    b->nfc = true;
    return KF_OK;
}

/* Rust's char::is_numeric: Nd, Nl, No. */
static bool is_number(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

static kf_status behavior_of(const json_t *part, const char *otherwise, kf_split_behavior *out) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(part, "behavior"));
    if (!name) name = otherwise;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (kf_split_behavior)i;
        return KF_OK;
    }
    return KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": behavior %.40s is not known", name);
}

static kf_status load_split(kf_byte_level *b, const json_t *part) {
    const json_t *pattern = json_object_get(part, "pattern"), *regex = json_object_get(pattern, "Regex");
    const json_t *text = regex ? regex : json_object_get(pattern, "String");
    kf_split_behavior behavior;
    if (!json_is_string(text)) return KF_FAIL(KF_ERR_CORRUPT, PRE ": a Split without a Regex or a String");
    KF_TRY(behavior_of(part, "Isolated", &behavior));
    return kf_splitter_add_pattern(&b->splitter, PRE ": Split", json_string_value(text), json_string_length(text),
                                   !regex, behavior, kf_json_flag(part, "invert", false));
}

static kf_status load_byte_level(kf_byte_level *b, const json_t *part) {
    bool prefix = kf_json_flag(part, "add_prefix_space", true);
    if (prefix && b->splitter.n_steps)
        return KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": ByteLevel with add_prefix_space after another step");
    b->add_prefix_space = prefix;
    if (!kf_json_flag(part, "use_regex", true)) return KF_OK;
    return kf_splitter_add_pattern(&b->splitter, PRE ": ByteLevel", KF_SPLIT_GPT2, strlen(KF_SPLIT_GPT2), false,
                                   KF_SPLIT_ISOLATED, false);
}

/* One step that is not ByteLevel and not a Sequence. */
static kf_status load_step(kf_byte_level *b, const json_t *part) {
    const char *type = kf_json_type(part);
    kf_split_behavior behavior;
    if (strcmp(type, "Split") == 0) return load_split(b, part);
    if (strcmp(type, "Digits") == 0) {
        behavior = kf_json_flag(part, "individual_digits", false) ? KF_SPLIT_ISOLATED : KF_SPLIT_CONTIGUOUS;
        return kf_splitter_add_class(&b->splitter, PRE ": Digits", is_number, behavior);
    }
    if (strcmp(type, "Punctuation") == 0) {
        KF_TRY(behavior_of(part, "Isolated", &behavior));
        return kf_splitter_add_class(&b->splitter, PRE ": Punctuation", kf_bert_is_punctuation, behavior);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return kf_splitter_add_class(&b->splitter, PRE ": WhitespaceSplit", kf_bert_is_space, KF_SPLIT_REMOVED);
    return KF_FAIL(KF_ERR_UNSUPPORTED, PRE " %.40s is not known for BPE", type);
}

/* ByteLevel turns the text into its alphabet, so nothing may follow it; every other step sees the text itself. */
kf_status kf_tokenizer_load_pre_tokenizer(kf_byte_level *b, const json_t *pre_tokenizer) {
    bool is_sequence = strcmp(kf_json_type(pre_tokenizer), "Sequence") == 0;
    const json_t *parts = json_object_get(pre_tokenizer, "pretokenizers");
    size_t n = is_sequence ? json_array_size(parts) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *part = is_sequence ? json_array_get(parts, i) : pre_tokenizer;
        bool byte_level = strcmp(kf_json_type(part), "ByteLevel") == 0;
        if (byte_level != (i + 1 == n))
            return KF_FAIL(KF_ERR_UNSUPPORTED,
                           PRE ": %.40s is step %zu of %zu; the last must be ByteLevel, and no other",
                           kf_json_type(part), i + 1, n);
        KF_TRY(byte_level ? load_byte_level(b, part) : load_step(b, part));
    }
    return n ? KF_OK : KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": an empty Sequence");
}
