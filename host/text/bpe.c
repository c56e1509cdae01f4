/* Merging of bpe.h. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

enum { SCAN_MAX = 32, NO_RANK = INT32_MAX };

/* ---- the merges ---- */

static size_t slot_of(const kf_bpe *b, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (size_t)((key * 0x9E3779B97F4A7C15u) >> 32) & (b->n_slots - 1);
}

/* The slot of the pair, or the empty one where it would be. */
static kf_merge *find_merge(const kf_bpe *b, int32_t left, int32_t right) {
    for (size_t s = slot_of(b, left, right);; s = (s + 1) & (b->n_slots - 1)) {
        kf_merge *m = &b->merges[s];
        if (m->left < 0 || (m->left == left && m->right == right)) return m;
    }
}

kf_status kf_bpe_init(kf_bpe *b, size_t n_merges) {
    size_t n_slots = 16;
    while (n_slots < 2 * n_merges)
        n_slots *= 2;
    kf_merge *merges = malloc(n_slots * sizeof *merges);
    if (!merges) return KF_FAIL(KF_ERR_NO_MEMORY, "merges: no memory for %zu slots", n_slots);
    memset(merges, 0xFF, n_slots * sizeof *merges);
    *b = (kf_bpe){.merges = merges, .n_slots = n_slots};
    memset(b->byte_id, 0xFF, sizeof b->byte_id);
    return kf_vocab_init(&b->whole);
}

void kf_bpe_free(kf_bpe *b) {
    free(b->merges);
    kf_vocab_free(&b->whole);
    *b = (kf_bpe){0};
}

void kf_bpe_add_merge(kf_bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id) {
    *find_merge(b, left, right) = (kf_merge){left, right, rank, id};
}

static int32_t rank_of(const kf_bpe *b, int32_t left, int32_t right) {
    const kf_merge *m = find_merge(b, left, right);
    return m->left < 0 ? NO_RANK : m->rank;
}

/* ---- a word: symbols in a list ---- */

typedef struct symbol {
    int32_t id;   /* -1: taken by the symbol before it */
    int32_t rank; /* of the pair with the next one; NO_RANK: nothing joins them */
    uint32_t from, to;
    int32_t previous, next; /* -1 at the ends */
} symbol;

static void add_symbol(symbol *s, size_t *count, int32_t id, size_t from, size_t to) {
    if (id < 0) return; /* left out */
    int32_t i = (int32_t)(*count)++;
    s[i] = (symbol){.id = id, .from = (uint32_t)from, .to = (uint32_t)to, .previous = i - 1, .next = i + 1};
}

static void add_bytes(const kf_bpe *b, const char *word, size_t from, size_t to, symbol *s, size_t *count) {
    for (size_t i = from; i < to; i++)
        add_symbol(s, count, b->byte_id[(unsigned char)word[i]], i, i + 1);
}

/* A character is its own piece, or else its bytes' pieces, or else unk. */
static void add_chars(const kf_bpe *b, const char *word, size_t n, symbol *s, size_t *count) {
    bool after_unk = false;
    for (size_t at = 0, from = 0; at < n; from = at) {
        kf_utf8_next(word, &at);
        int32_t id = kf_vocab_find(b->chars, word + from, at - from);
        bool unk = id < 0 && !b->byte_fallback;
        if (id >= 0)
            add_symbol(s, count, id, from, at);
        else if (!unk)
            add_bytes(b, word, from, at, s, count);
        else if (after_unk && b->fuse_unk && *count)
            s[*count - 1].to = (uint32_t)at;
        else
            add_symbol(s, count, b->unk_id, from, at);
        after_unk = unk;
    }
}

/* At most n symbols, and their pairs' ranks. */
static size_t load(const kf_bpe *b, const char *word, size_t n, symbol *s) {
    size_t count = 0;
    if (b->chars)
        add_chars(b, word, n, s, &count);
    else
        add_bytes(b, word, 0, n, s, &count);
    for (size_t i = 0; i + 1 < count; i++)
        s[i].rank = rank_of(b, s[i].id, s[i + 1].id);
    if (count) {
        s[count - 1].next = -1;
        s[count - 1].rank = NO_RANK;
    }
    return count;
}

static void set_rank(const kf_bpe *b, symbol *s, int32_t i) {
    if (i < 0) return;
    s[i].rank = s[i].next < 0 ? NO_RANK : rank_of(b, s[i].id, s[s[i].next].id);
}

/* Joins symbol i and the next one. */
static void join(const kf_bpe *b, symbol *s, int32_t i) {
    symbol *left = &s[i], *right = &s[left->next];
    left->id = find_merge(b, left->id, right->id)->id;
    left->to = right->to;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0) s[left->next].previous = i;
    set_rank(b, s, left->previous);
    set_rank(b, s, i);
}

/* ---- few symbols: look at all pairs each time ---- */

static void merge_few(const kf_bpe *b, symbol *s) {
    for (;;) {
        int32_t best = 0;
        for (int32_t i = s[0].next; i >= 0; i = s[i].next)
            if (s[i].rank < s[best].rank) best = i;
        if (s[best].rank == NO_RANK) return;
        join(b, s, best);
    }
}

/* ---- many: a heap of pairs, each one number: rank, then place ---- */

typedef struct pair_heap {
    uint64_t *pairs; /* room for 3 a symbol: n - 1 at first, and two more for each of at most n - 1 merges */
    size_t n;
} pair_heap;

static void heap_push(pair_heap *h, const symbol *s, int32_t place) {
    if (place < 0 || s[place].rank == NO_RANK) return;
    uint64_t pair = (uint64_t)s[place].rank << 32 | (uint32_t)place;
    size_t i = h->n++;
    for (; i > 0 && h->pairs[(i - 1) / 2] > pair; i = (i - 1) / 2)
        h->pairs[i] = h->pairs[(i - 1) / 2];
    h->pairs[i] = pair;
}

static uint64_t heap_pop(pair_heap *h) {
    uint64_t top = h->pairs[0], last = h->pairs[--h->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->pairs[child + 1] < h->pairs[child]) child++;
        if (h->pairs[child] >= last) break;
        h->pairs[i] = h->pairs[child];
    }
    h->pairs[i] = last;
    return top;
}

static void merge_many(const kf_bpe *b, symbol *s, size_t count, uint64_t *memory) {
    pair_heap h = {memory, 0};
    for (size_t i = 0; i < count; i++)
        heap_push(&h, s, (int32_t)i);
    while (h.n) {
        uint64_t pair = heap_pop(&h);
        int32_t i = (int32_t)(uint32_t)pair;
        if (s[i].id < 0 || s[i].rank != (int32_t)(pair >> 32)) continue; /* a pair that is no more */
        join(b, s, i);
        heap_push(&h, s, s[i].previous);
        heap_push(&h, s, i);
    }
}

/* ---- words ---- */

kf_status kf_bpe_add_whole(kf_bpe *b, const char *word, size_t n, int32_t id, bool always) {
    symbol s[SCAN_MAX];
    if (!always) {
        if (n > SCAN_MAX || load(b, word, n, s) == 0) return KF_OK;
        merge_few(b, s);
        if (s[0].id != id || s[0].from != 0 || s[0].to != n) return KF_OK;
    }
    return kf_vocab_put(&b->whole, word, n, id);
}

kf_status kf_bpe_encode(const kf_bpe *b, const char *word, size_t n, kf_bpe_emit emit, void *user) {
    symbol few[KF_BPE_STACK_BYTES], *s = few;
    uint64_t pairs[3 * KF_BPE_STACK_BYTES], *memory = pairs;
    int32_t id = n <= b->whole.piece_bytes_max ? kf_vocab_find(&b->whole, word, n) : -1;
    if (id >= 0) {
        emit(user, id, 0, n);
        return KF_OK;
    }
    kf_status status = KF_OK;
    if (n > KF_BPE_STACK_BYTES) {
        s = malloc(n * sizeof *s);
        memory = malloc(3 * n * sizeof *memory);
        if (!s || !memory) status = KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for a word of %zu bytes", n);
    }
    size_t count = status == KF_OK ? load(b, word, n, s) : 0;
    if (count > SCAN_MAX)
        merge_many(b, s, count, memory);
    else if (count)
        merge_few(b, s);
    for (int32_t i = count ? 0 : -1; i >= 0; i = s[i].next)
        emit(user, s[i].id, s[i].from, s[i].to);
    if (s != few) free(s);
    if (memory != pairs) free(memory);
    return status;
}

/* ---- GPT-2's alphabet of bytes: what is printable in Latin-1 is itself, the rest follows U+0100 in order ---- */

uint32_t kf_byte_level_char(unsigned char byte) {
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143 : byte;
}

int kf_byte_level_byte(uint32_t cp) {
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    if (cp == 0x143) return 0xAD;
    bool itself = (cp > 0x20 && cp < 0x7F) || (cp > 0xA0 && cp <= 0xFF && cp != 0xAD);
    return itself ? (int)cp : -1;
}

size_t kf_byte_level_bytes(const char *piece, size_t n, char *out) {
    size_t n_out = 0;
    for (size_t at = 0; at < n;) {
        int byte = kf_byte_level_byte(kf_utf8_next(piece, &at));
        if (byte < 0) return 0;
        out[n_out++] = (char)byte;
    }
    return n_out;
}
