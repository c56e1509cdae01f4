/* Merging of bpe.h. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

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

/* ---- a word of at most SCAN_MAX bytes ---- */

typedef struct short_word {
    int32_t id[SCAN_MAX];
    int32_t rank[SCAN_MAX];     /* of the pair (i, i + 1) */
    uint8_t from[SCAN_MAX + 1]; /* symbol i is bytes from[i] to to[i] */
    uint8_t to[SCAN_MAX + 1];
    size_t n;
} short_word;

static void merge_short(const kf_bpe *b, short_word *w) {
    for (size_t i = 0; i + 1 < w->n; i++)
        w->rank[i] = rank_of(b, w->id[i], w->id[i + 1]);
    while (w->n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < w->n; i++)
            if (w->rank[i] < w->rank[best]) best = i;
        if (w->rank[best] == NO_RANK) return;
        w->id[best] = find_merge(b, w->id[best], w->id[best + 1])->id;
        w->to[best] = w->to[best + 1];
        w->n--;
        for (size_t i = best + 1; i < w->n; i++) {
            w->id[i] = w->id[i + 1];
            w->from[i] = w->from[i + 1];
            w->to[i] = w->to[i + 1];
            w->rank[i - 1] = w->rank[i];
        }
        if (best > 0) w->rank[best - 1] = rank_of(b, w->id[best - 1], w->id[best]);
        if (best + 1 < w->n) w->rank[best] = rank_of(b, w->id[best], w->id[best + 1]);
    }
}

static void load_short(const kf_bpe *b, const char *word, size_t n, short_word *w) {
    w->n = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[(unsigned char)word[i]];
        if (id < 0) continue;
        w->id[w->n] = id;
        w->from[w->n] = (uint8_t)i;
        w->to[w->n++] = (uint8_t)(i + 1);
    }
}

/* ---- a longer word: symbols in a list, pairs in a heap by rank and place ---- */

typedef struct symbol {
    int32_t id; /* -1: taken by the symbol before it */
    uint32_t from, to;
    int32_t previous, next; /* -1 at the ends */
} symbol;

/* A pair is worth its rank, then its place: one number orders both. */
typedef struct long_word {
    symbol *symbols; /* [n bytes] */
    uint64_t *heap;  /* [3 n]: n - 1 pairs at first, and two for each of at most n - 1 merges */
    size_t n_heap;
} long_word;

static void heap_push(long_word *w, uint64_t pair) {
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > pair; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = pair;
}

static uint64_t heap_pop(long_word *w) {
    uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static void push_pair(const kf_bpe *b, long_word *w, int32_t left) {
    int32_t right = left < 0 ? -1 : w->symbols[left].next;
    if (right < 0) return;
    int32_t rank = rank_of(b, w->symbols[left].id, w->symbols[right].id);
    if (rank != NO_RANK) heap_push(w, (uint64_t)rank << 32 | (uint32_t)left);
}

static void merge_long(const kf_bpe *b, long_word *w, size_t n) {
    for (size_t i = 0; i + 1 < n; i++)
        push_pair(b, w, (int32_t)i);
    while (w->n_heap) {
        uint64_t pair = heap_pop(w);
        symbol *left = &w->symbols[(uint32_t)pair];
        if (left->id < 0 || left->next < 0) continue;
        symbol *right = &w->symbols[left->next];
        const kf_merge *m = find_merge(b, left->id, right->id);
        if (m->left < 0 || m->rank != (int32_t)(pair >> 32)) continue; /* a pair that is no more */
        left->id = m->id;
        left->to = right->to;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) w->symbols[left->next].previous = (int32_t)(left - w->symbols);
        push_pair(b, w, left->previous);
        push_pair(b, w, (int32_t)(left - w->symbols));
    }
}

static size_t load_long(const kf_bpe *b, const char *word, size_t n, symbol *symbols) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[(unsigned char)word[i]];
        if (id < 0) continue;
        symbols[count] = (symbol){id, (uint32_t)i, (uint32_t)i + 1, (int32_t)count - 1, (int32_t)count + 1};
        count++;
    }
    if (count) symbols[count - 1].next = -1;
    return count;
}

static void encode_long(const kf_bpe *b, const char *word, size_t n, long_word *w, kf_bpe_emit emit, void *user) {
    size_t count = load_long(b, word, n, w->symbols);
    merge_long(b, w, count);
    for (int32_t i = count ? 0 : -1; i >= 0; i = w->symbols[i].next)
        emit(user, w->symbols[i].id, w->symbols[i].from, w->symbols[i].to);
}

/* ---- words ---- */

kf_status kf_bpe_add_whole(kf_bpe *b, const char *word, size_t n, int32_t id, bool always) {
    if (!always) {
        short_word w;
        if (n > SCAN_MAX) return KF_OK;
        load_short(b, word, n, &w);
        merge_short(b, &w);
        if (w.n != 1 || w.id[0] != id || w.from[0] != 0 || w.to[0] != n) return KF_OK;
    }
    return kf_vocab_put(&b->whole, word, n, id);
}

kf_status kf_bpe_encode(const kf_bpe *b, const char *word, size_t n, kf_bpe_emit emit, void *user) {
    int32_t id = n <= b->whole.piece_bytes_max ? kf_vocab_find(&b->whole, word, n) : -1;
    if (id >= 0) {
        emit(user, id, 0, n);
        return KF_OK;
    }
    if (n <= SCAN_MAX) {
        short_word w;
        load_short(b, word, n, &w);
        merge_short(b, &w);
        for (size_t i = 0; i < w.n; i++)
            emit(user, w.id[i], w.from[i], w.to[i]);
        return KF_OK;
    }
    if (n <= KF_BPE_STACK_BYTES) {
        symbol symbols[KF_BPE_STACK_BYTES];
        uint64_t heap[3 * KF_BPE_STACK_BYTES];
        encode_long(b, word, n, &(long_word){symbols, heap, 0}, emit, user);
        return KF_OK;
    }
    symbol *symbols = malloc(n * sizeof *symbols);
    uint64_t *heap = malloc(3 * n * sizeof *heap);
    kf_status s = KF_OK;
    if (symbols && heap)
        encode_long(b, word, n, &(long_word){symbols, heap, 0}, emit, user);
    else
        s = KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for a word of %zu bytes", n);
    free(symbols);
    free(heap);
    return s;
}

/* ---- GPT-2's alphabet of bytes: what is printable in Latin-1 is itself, the rest follows U+0100 in order ---- */

static bool is_itself(unsigned byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

uint32_t kf_byte_level_char(unsigned char byte) {
    uint32_t n_before = 0;
    if (is_itself(byte)) return byte;
    for (unsigned i = 0; i < byte; i++)
        n_before += !is_itself(i);
    return 0x100 + n_before;
}

int kf_byte_level_byte(uint32_t cp) {
    if (cp < 0x100) return is_itself(cp) ? (int)cp : -1;
    for (unsigned i = 0, n = 0x100; cp < 0x144 && i < 0x100; i++)
        if (!is_itself(i) && n++ == cp) return (int)i;
    return -1;
}
