/* The normalizer and pre_tokenizer of a BPE model's tokenizer.json. */
#include <string.h>

#include <utf8proc.h>

#include "text/bert_chars.h"
#include "text/tokenizer_impl.h"

#define PRE "tokenizer.json: pre_tokenizer"

/* NFC, or SentencePiece's Prepend and Replace of spaces. */
static kf_status load_normalizer_step(kf_pipeline *p, const json_t *n) {
    bool replaces =
        kf_json_text_is(json_object_get(n, "pattern"), "String", " ") && kf_json_text_is(n, "content", KF_METASPACE);
    if (kf_json_is(n, "NFC") && !p->metaspace) {
        p->nfc = true;
    } else if (kf_json_is(n, "Prepend") && p->prefix == KF_PREFIX_NEVER &&
               kf_json_text_is(n, "prepend", KF_METASPACE)) {
        p->prefix = KF_PREFIX_ALWAYS;
    } else if (kf_json_is(n, "Replace") && replaces && p->bpe.chars && !p->nfc) {
        p->metaspace = true;
    } else {
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: normalizer %.40s, as it is set, is not known for this BPE",
                       kf_json_type(n));
    }
    return KF_OK;
}

kf_status kf_tokenizer_load_normalizer(kf_pipeline *p, const json_t *normalizer) {
    const json_t *parts = json_object_get(normalizer, "normalizers");
    if (kf_json_is(normalizer, "null")) return KF_OK;
    if (!kf_json_is(normalizer, "Sequence")) KF_TRY(load_normalizer_step(p, normalizer));
    for (size_t i = 0; i < json_array_size(parts); i++)
        KF_TRY(load_normalizer_step(p, json_array_get(parts, i)));
    if (p->prefix == KF_PREFIX_ALWAYS && !p->metaspace)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: normalizer Prepend without Replace");
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

static kf_status load_split(kf_pipeline *p, const json_t *part) {
    const json_t *pattern = json_object_get(part, "pattern"), *regex = json_object_get(pattern, "Regex");
    const json_t *text = regex ? regex : json_object_get(pattern, "String");
    kf_split_behavior behavior;
    if (!json_is_string(text)) return KF_FAIL(KF_ERR_CORRUPT, PRE ": a Split without a Regex or a String");
    KF_TRY(behavior_of(part, "Isolated", &behavior));
    return kf_splitter_add_pattern(&p->splitter, PRE ": Split", json_string_value(text), json_string_length(text),
                                   !regex, behavior, kf_json_flag(part, "invert", false));
}

/* A prefix belongs to the text: a step before it would make it one of each word. */
static kf_status load_prefix(kf_pipeline *p, const json_t *part, kf_prefix prefix) {
    if (prefix != KF_PREFIX_NEVER && (p->splitter.n_steps || p->prefix != KF_PREFIX_NEVER))
        return KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": %.40s puts a space in front, after another step", kf_json_type(part));
    if (prefix != KF_PREFIX_NEVER) p->prefix = prefix;
    return KF_OK;
}

static kf_status load_byte_level(kf_pipeline *p, const json_t *part) {
    bool prefix = kf_json_flag(part, "add_prefix_space", true);
    KF_TRY(load_prefix(p, part, prefix ? KF_PREFIX_UNLESS_THERE : KF_PREFIX_NEVER));
    if (!kf_json_flag(part, "use_regex", true)) return KF_OK;
    return kf_splitter_add_pattern(&p->splitter, PRE ": ByteLevel", KF_SPLIT_GPT2, strlen(KF_SPLIT_GPT2), false,
                                   KF_SPLIT_ISOLATED, false);
}

static kf_status load_metaspace(kf_pipeline *p, const json_t *part) {
    const char *otherwise = kf_json_flag(part, "add_prefix_space", true) ? "always" : "never";
    const char *scheme = kf_json_text(part, "prepend_scheme", otherwise);
    bool known = strcmp(scheme, "always") == 0 || strcmp(scheme, "first") == 0 || strcmp(scheme, "never") == 0;
    if (!known || !kf_json_text_is(part, "replacement", KF_METASPACE) || !p->bpe.chars || p->nfc)
        return KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": Metaspace, as it is set, is not known for this BPE");
    p->metaspace = true;
    p->prefix_once = strcmp(scheme, "first") == 0;
    KF_TRY(load_prefix(p, part, strcmp(scheme, "never") == 0 ? KF_PREFIX_NEVER : KF_PREFIX_UNLESS_THERE));
    if (!kf_json_flag(part, "split", true)) return KF_OK;
    return kf_splitter_add_pattern(&p->splitter, PRE ": Metaspace", KF_METASPACE, strlen(KF_METASPACE), true,
                                   KF_SPLIT_WITH_NEXT, false);
}

/* One step that is not ByteLevel and not a Sequence. */
static kf_status load_step(kf_pipeline *p, const json_t *part) {
    kf_split_behavior behavior;
    if (kf_json_is(part, "Split")) return load_split(p, part);
    if (kf_json_is(part, "Digits")) {
        behavior = kf_json_flag(part, "individual_digits", false) ? KF_SPLIT_ISOLATED : KF_SPLIT_CONTIGUOUS;
        return kf_splitter_add_class(&p->splitter, PRE ": Digits", is_number, behavior);
    }
    if (kf_json_is(part, "Punctuation")) {
        KF_TRY(behavior_of(part, "Isolated", &behavior));
        return kf_splitter_add_class(&p->splitter, PRE ": Punctuation", kf_bert_is_punctuation, behavior);
    }
    if (kf_json_is(part, "WhitespaceSplit"))
        return kf_splitter_add_class(&p->splitter, PRE ": WhitespaceSplit", kf_bert_is_space, KF_SPLIT_REMOVED);
    return KF_FAIL(KF_ERR_UNSUPPORTED, PRE " %.40s is not known for BPE", kf_json_type(part));
}

/* ByteLevel turns the text into its alphabet, so nothing may follow it; every other step sees the text itself. */
static kf_status load_pre_tokenizer_step(kf_pipeline *p, const json_t *part, bool last) {
    bool byte_level = kf_json_is(part, "ByteLevel");
    if (byte_level != (last && !p->bpe.chars))
        return KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": %.40s: a byte-level BPE ends with ByteLevel, and only there",
                       kf_json_type(part));
    if (byte_level) return load_byte_level(p, part);
    return kf_json_is(part, "Metaspace") ? load_metaspace(p, part) : load_step(p, part);
}

kf_status kf_tokenizer_load_pre_tokenizer(kf_pipeline *p, const json_t *pre_tokenizer) {
    const json_t *parts = json_object_get(pre_tokenizer, "pretokenizers");
    size_t n = json_array_size(parts);
    if (kf_json_is(pre_tokenizer, "null") && p->bpe.chars) return KF_OK;
    if (!kf_json_is(pre_tokenizer, "Sequence")) return load_pre_tokenizer_step(p, pre_tokenizer, true);
    for (size_t i = 0; i < n; i++)
        KF_TRY(load_pre_tokenizer_step(p, json_array_get(parts, i), i + 1 == n));
    return n ? KF_OK : KF_FAIL(KF_ERR_UNSUPPORTED, PRE ": an empty Sequence");
}
