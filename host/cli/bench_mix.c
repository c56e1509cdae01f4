/* The request mix of a load test. */
#include "cli/bench_mix.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lines.h"

/* Lengths as in Chinese e-commerce dialogue (JDDC, arXiv 1911.09969: 7.4 tokens an utterance). */
static const char *const built_in[] = {
    "在吗",
    "你好，想问个事",
    "有货吗",
    "这件还有M码没",
    "我想要一件红色的羽绒服",
    "帮我挑个送妈妈的礼物，三百以内",
    "这个锅能用电磁炉不",
    "多少钱",
    "能便宜点吗，我买两个",
    "双十一还会再降价吗",
    "优惠券怎么用不了",
    "昨天拍的怎么还没发货",
    "发什么快递",
    "到哪了",
    "快递三天没动了，帮我催一下",
    "地址填错了，能改成公司吗",
    "拍错颜色了，换成黑的发",
    "不想要了，取消吧",
    "退货运费谁出",
    "退款几天到账",
    "鞋子大了，换小一码",
    "吹风机用了一周就不转了，能修吗",
    "少发了一袋，给补一下",
    "质量太差了，我要投诉",
    "等了半个月，你们到底管不管",
    "付不了款，一直转圈",
    "能开专票吗",
    "发票抬头写错了怎么办",
    "密码忘了登不上去",
    "积分怎么兑换",
    "衣服收到了，很喜欢，谢谢",
    "转人工",
    "好的谢谢，没事了",
    "给我写首诗吧",
    "一米七五，一百四十斤穿多大的合适，平时喜欢宽松一点，肩膀有点宽",
    "宝宝八个月能吃这个米粉吗，之前吃别的牌子有点过敏，想看看配料里有没有牛奶",
};
enum { N_BUILT_IN = sizeof built_in / sizeof *built_in, MAX_TOKENS_MAX = 1 << 20 };

static kf_status add(kf_mix *m, const char *text, uint32_t max_tokens, bool understand) {
    if (m->n == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 64;
        kf_mix_item *grown = realloc(m->items, cap * sizeof *grown);
        if (!grown) return KF_FAIL(KF_ERR_NO_MEMORY, "bench: no memory for %zu messages", cap);
        m->items = grown;
        m->cap = cap;
    }
    char *copy = strdup(text);
    if (!copy) return KF_FAIL(KF_ERR_NO_MEMORY, "bench: no memory for a message");
    if (strlen(copy) > m->text_bytes_max) m->text_bytes_max = strlen(copy);
    m->items[m->n++] = (kf_mix_item){copy, max_tokens, understand};
    return KF_OK;
}

static kf_status add_object(kf_mix *m, const kf_lines *in, const json_t *line, const char *why) {
    json_t *text = json_object_get(line, "text"), *max_tokens = json_object_get(line, "max_tokens"),
           *understand = json_object_get(line, "understand");
    json_int_t n = json_integer_value(max_tokens);
    if (!json_is_object(line))
        return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: begins as JSON, but is none: %s", in->path, in->line_no, why);
    if (json_string_length(text) == 0)
        return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: \"text\" must be a string that is not empty", in->path,
                       in->line_no);
    if (max_tokens && (!json_is_integer(max_tokens) || n < 1 || n > MAX_TOKENS_MAX))
        return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: \"max_tokens\" must be an integer from 1 to %d", in->path,
                       in->line_no, MAX_TOKENS_MAX);
    if (understand && !json_is_boolean(understand))
        return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: \"understand\" must be true or false", in->path, in->line_no);
    return add(m, json_string_value(text), (uint32_t)n, json_is_true(understand));
}

static kf_status add_line(kf_mix *m, const kf_lines *in, const char *line, size_t n_bytes) {
    if (line[0] != '{') return add(m, line, 0, false);
    json_error_t why;
    json_t *root = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES, &why);
    kf_status s = add_object(m, in, root, why.text);
    json_decref(root);
    return s;
}

static kf_status read_file(kf_mix *m, const char *path) {
    kf_lines in;
    char *line;
    size_t n_bytes;
    KF_TRY(kf_lines_open(&in, path));
    kf_status s;
    while ((s = kf_lines_next(&in, &line, &n_bytes)) == KF_OK)
        if ((s = add_line(m, &in, line, n_bytes)) != KF_OK) break;
    if (s == KF_ERR_CLOSED) s = m->n ? KF_OK : KF_FAIL(KF_ERR_INVALID, "%s: no messages in it", in.path);
    kf_lines_close(&in);
    return s;
}

kf_status kf_mix_read(const char *path, kf_mix *out) {
    kf_mix m = {0};
    kf_status s = path ? read_file(&m, path) : KF_OK;
    for (size_t i = 0; !path && i < N_BUILT_IN; i++)
        KF_STEP(s, add(&m, built_in[i], 0, false));
    if (s == KF_OK)
        *out = m;
    else
        kf_mix_free(&m);
    return s;
}

void kf_mix_free(kf_mix *m) {
    for (size_t i = 0; i < m->n; i++)
        free(m->items[i].text);
    free(m->items);
    *m = (kf_mix){0};
}
