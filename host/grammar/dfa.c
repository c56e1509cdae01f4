/* From many states at once to one: the subset construction, then what can reach no whole text is cut off. */
#include "grammar/dfa.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { SLOTS = 4 * KF_DFA_STATES_MAX, WORK_MAX = 20000000, TABLE_BYTES_MAX = 4 << 20 };
enum { POOL_MAX = 1 << 22 };

/* A state under construction is the sorted set of the bytes-or-final states that n may be in. */
typedef struct maker {
    const kf_nfa *n;
    uint32_t *pool; /* [pool_cap] the sets, one after another */
    size_t pool_n, pool_cap;
    size_t at[KF_DFA_STATES_MAX + 1]; /* where each begins; state s is pool[at[s] … at[s + 1]) */
    size_t n_states;
    uint16_t slots[SLOTS]; /* by the set's hash; 0: empty */

    uint32_t *set, *stack; /* [n->n] scratch */
    size_t n_set;
    uint32_t *mark; /* [n->n] the last closure that a state was in */
    uint32_t stamp;
    size_t work;

    uint8_t class_of[256], byte_of[256]; /* the lowest usable byte of each class: they ascend */
    uint16_t class_from[257];            /* the first class whose byte is that or above; n_classes: none */
    size_t n_classes;
    uint16_t *next; /* [next_cap, n_classes] */
    size_t next_cap;
} maker;

/* ---- bytes that nothing tells apart ---- */

static void make_classes(maker *m, const bool usable[256]) {
    bool begins[257] = {true};
    for (size_t i = 0; i < m->n->n; i++) {
        const kf_nfa_state *s = &m->n->states[i];
        if (s->kind != KF_NFA_BYTES) continue;
        begins[s->lo] = true;
        begins[s->hi + 1] = true;
    }
    m->n_classes = 1;
    for (size_t b = 0, of_run = 0; b < 256; b++) {
        if (begins[b]) of_run = 0;
        m->class_of[b] = 0;
        if (!usable[b]) continue;
        if (!of_run) {
            of_run = m->n_classes++;
            m->byte_of[of_run] = (uint8_t)b;
        }
        m->class_of[b] = (uint8_t)of_run;
    }
}

static void order_classes(maker *m) {
    size_t c = m->n_classes;
    for (size_t b = 257; b-- > 0;) {
        if (c > 1 && m->byte_of[c - 1] == b) c--;
        m->class_from[b] = (uint16_t)c;
    }
}

/* ---- sets ---- */

static void set_begin(maker *m) {
    m->n_set = 0;
    m->stamp++;
}

/* Adds what `first` leads to without a byte. */
static void set_add(maker *m, int32_t first) {
    size_t n_stack = 0;
    if (first == KF_NFA_NONE || m->mark[first] == m->stamp) return;
    m->mark[first] = m->stamp;
    m->stack[n_stack++] = (uint32_t)first;
    while (n_stack) {
        uint32_t i = m->stack[--n_stack];
        const kf_nfa_state *s = &m->n->states[i];
        m->work++;
        if (s->kind != KF_NFA_SPLIT) {
            m->set[m->n_set++] = i;
            continue;
        }
        const int32_t outs[] = {s->out, s->out2};
        for (size_t o = 0; o < 2; o++) {
            if (outs[o] == KF_NFA_NONE || m->mark[outs[o]] == m->stamp) continue;
            m->mark[outs[o]] = m->stamp;
            m->stack[n_stack++] = (uint32_t)outs[o];
        }
    }
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static kf_status too_large(void) {
    return KF_FAIL(KF_ERR_TOO_LARGE,
                   "response_format: needs more than %d states, or too long to lay out: repeat, nest or choose less",
                   KF_DFA_STATES_MAX);
}

static kf_status push_set(maker *m) {
    if (m->pool_n + m->n_set > m->pool_cap) {
        size_t cap = 2 * m->pool_cap + m->n_set;
        if (cap > POOL_MAX) return too_large();
        uint32_t *more = realloc(m->pool, cap * sizeof *more);
        if (!more) return KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu entries", cap);
        m->pool = more;
        m->pool_cap = cap;
    }
    memcpy(m->pool + m->pool_n, m->set, m->n_set * sizeof *m->set);
    m->pool_n += m->n_set;
    m->at[++m->n_states] = m->pool_n;
    return KF_OK;
}

/* The state of the set in m->set, made where it is new. */
static kf_status state_of_set(maker *m, uint16_t *out) {
    if (m->n_set == 0) {
        *out = KF_DFA_DEAD;
        return KF_OK;
    }
    qsort(m->set, m->n_set, sizeof *m->set, by_number);
    size_t bytes = m->n_set * sizeof *m->set;
    m->work += 4 * m->n_set;
    size_t slot = kf_fnv32(KF_FNV32_START, (const char *)m->set, bytes) % SLOTS;
    for (; m->slots[slot]; slot = (slot + 1) % SLOTS) {
        size_t s = m->slots[slot];
        if (m->at[s + 1] - m->at[s] == m->n_set && !memcmp(m->pool + m->at[s], m->set, bytes)) {
            *out = (uint16_t)s;
            return KF_OK;
        }
    }
    if (m->n_states == KF_DFA_STATES_MAX || m->n_states * m->n_classes * sizeof *m->next > TABLE_BYTES_MAX)
        return too_large();
    m->slots[slot] = *out = (uint16_t)m->n_states;
    return push_set(m);
}

static kf_status fill_row(maker *m, size_t state) {
    if (state >= m->next_cap) {
        m->next_cap = m->next_cap ? 2 * m->next_cap : 64;
        uint16_t *more = realloc(m->next, m->next_cap * m->n_classes * sizeof *more);
        if (!more) return KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu states", m->next_cap);
        m->next = more;
    }
    bool begins[257] = {[1] = true}; /* classes that the state tells from the class before */
    uint16_t *row = m->next + state * m->n_classes;
    for (size_t i = m->at[state]; i < m->at[state + 1]; i++) {
        const kf_nfa_state *s = &m->n->states[m->pool[i]];
        begins[m->class_from[s->lo]] = begins[m->class_from[s->hi + 1]] = true;
    }
    row[0] = KF_DFA_DEAD;
    for (size_t c = 1; c < m->n_classes; c++) {
        if (!begins[c]) {
            row[c] = row[c - 1];
            continue;
        }
        set_begin(m);
        for (size_t i = m->at[state]; i < m->at[state + 1]; i++) {
            const kf_nfa_state *s = &m->n->states[m->pool[i]];
            if (s->kind == KF_NFA_BYTES && m->byte_of[c] >= s->lo && m->byte_of[c] <= s->hi) set_add(m, s->out);
        }
        m->work += m->at[state + 1] - m->at[state];
        KF_TRY(state_of_set(m, &row[c]));
        if (m->work > WORK_MAX) return too_large();
    }
    return KF_OK;
}

static kf_status subsets(maker *m, int32_t start) {
    uint16_t first;
    m->at[0] = m->at[1] = 0; /* the dead state's set is empty */
    m->n_states = 1;
    set_begin(m);
    set_add(m, start);
    KF_TRY(state_of_set(m, &first));
    for (size_t s = 0; s < m->n_states; s++)
        KF_TRY(fill_row(m, s));
    return KF_OK;
}

/* ---- the finished automaton ---- */

static bool is_final(const maker *m, size_t state) {
    return m->at[state] < m->at[state + 1] && m->pool[m->at[state]] == KF_NFA_ACCEPT; /* the lowest number there is */
}

/* Bytes to the nearest final state, breadth first along the transitions turned round. */
static kf_status measure(const maker *m, kf_dfa *d) {
    size_t n = d->n_states, n_edges = n * d->n_classes, n_queue = 0;
    uint32_t *from_at = calloc(n + 2, sizeof *from_at);
    uint16_t *from = malloc(n_edges * sizeof *from), *queue = malloc(n * sizeof *queue);
    kf_status s = KF_OK;
    if (!from_at || !from || !queue) {
        s = KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu transitions", n_edges);
    } else {
        for (size_t i = 0; i < n_edges; i++)
            from_at[d->next[i] + 2]++;
        for (size_t i = 2; i < n + 2; i++)
            from_at[i] += from_at[i - 1];
        for (size_t i = 0; i < n_edges; i++)
            from[from_at[d->next[i] + 1]++] = (uint16_t)(i / d->n_classes);
        for (size_t i = 0; i < n; i++) {
            d->distance[i] = is_final(m, i) ? 0 : KF_DFA_STATES_MAX;
            if (is_final(m, i)) queue[n_queue++] = (uint16_t)i;
        }
        for (size_t q = 0; q < n_queue; q++)
            for (size_t i = from_at[queue[q]]; i < from_at[queue[q] + 1]; i++) {
                if (d->distance[from[i]] != KF_DFA_STATES_MAX) continue;
                d->distance[from[i]] = (uint16_t)(d->distance[queue[q]] + 1);
                queue[n_queue++] = from[i];
            }
    }
    free(from_at);
    free(from);
    free(queue);
    return s;
}

/* Where every byte of first … last that a plain character may have there leads, if it is one state. */
static uint16_t same_next(const kf_dfa *d, uint16_t state, unsigned first, unsigned last) {
    uint16_t to = kf_dfa_next(d, state, (uint8_t)first);
    for (unsigned b = first; b <= last && to; b++)
        if (kf_plain_byte((uint8_t)b) && kf_dfa_next(d, state, (uint8_t)b) != to) return KF_DFA_DEAD;
    return to;
}

/* As above over the leading bytes first … last, whose second byte is second[0] … second[1], and n_more follow it. */
static bool leads_to(const kf_dfa *d, uint16_t state, unsigned first, unsigned last, const unsigned second[2],
                     unsigned n_more, uint16_t want) {
    for (unsigned b = first; b <= last; b++) {
        uint16_t s = kf_dfa_next(d, state, (uint8_t)b);
        if (s) s = same_next(d, s, second[0], second[1]);
        for (unsigned i = 0; i < n_more && s; i++)
            s = same_next(d, s, 0x80, 0xBF);
        if (s != want) return false;
    }
    return true;
}

static uint16_t plain_next(const kf_dfa *d, uint16_t state) {
    static const struct {
        unsigned first, last, second[2], n_more;
    } leads[] = {
        {0xC2, 0xDF, {0x80, 0xBF}, 0}, {0xE0, 0xE0, {0xA0, 0xBF}, 1}, {0xE1, 0xEC, {0x80, 0xBF}, 1},
        {0xED, 0xED, {0x80, 0x9F}, 1}, {0xEE, 0xEF, {0x80, 0xBF}, 1}, {0xF0, 0xF0, {0x90, 0xBF}, 2},
        {0xF1, 0xF3, {0x80, 0xBF}, 2}, {0xF4, 0xF4, {0x80, 0x8F}, 2},
    };
    uint16_t to = same_next(d, state, 0x20, 0x7F);
    for (size_t i = 0; to && i < sizeof leads / sizeof *leads; i++)
        if (!leads_to(d, state, leads[i].first, leads[i].last, leads[i].second, leads[i].n_more, to)) return 0;
    return to;
}

static kf_status finish(const maker *m, kf_dfa *d) {
    size_t n_edges = m->n_states * m->n_classes;
    d->n_states = m->n_states;
    d->n_classes = m->n_classes;
    memcpy(d->class_of, m->class_of, sizeof d->class_of);
    d->next = malloc(n_edges * sizeof *d->next);
    d->distance = calloc(m->n_states, sizeof *d->distance);
    d->plain = malloc(m->n_states * sizeof *d->plain);
    if (!d->next || !d->distance || !d->plain)
        return KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu states", m->n_states);
    memcpy(d->next, m->next, n_edges * sizeof *d->next);
    KF_TRY(measure(m, d));
    if (d->distance[KF_DFA_START] == KF_DFA_STATES_MAX)
        return KF_FAIL(KF_ERR_INVALID, "response_format: nothing can be written that it allows");
    for (size_t i = 0; i < n_edges; i++)
        if (d->distance[d->next[i]] == KF_DFA_STATES_MAX) d->next[i] = KF_DFA_DEAD;
    for (size_t s = 0; s < d->n_states; s++) {
        d->plain[s] = plain_next(d, (uint16_t)s);
        if (d->distance[s] < KF_DFA_STATES_MAX && d->distance[s] > d->distance_max) d->distance_max = d->distance[s];
    }
    return KF_OK;
}

kf_status kf_dfa_new(const kf_nfa *n, int32_t start, const bool usable[256], kf_dfa **out) {
    if (n->status != KF_OK) return n->status;
    if (start == KF_NFA_NONE) return KF_FAIL(KF_ERR_INVALID, "response_format: nothing can be written that it allows");
    maker *m = calloc(1, sizeof *m);
    kf_dfa *d = calloc(1, sizeof *d);
    kf_status s = KF_OK;
    if (m) {
        m->n = n;
        m->set = malloc(n->n * sizeof *m->set);
        m->stack = malloc(n->n * sizeof *m->stack);
        m->mark = calloc(n->n, sizeof *m->mark);
    }
    if (!m || !d || !m->set || !m->stack || !m->mark) {
        s = KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu states", n->n);
    } else {
        make_classes(m, usable);
        order_classes(m);
        KF_STEP(s, subsets(m, start));
        KF_STEP(s, finish(m, d));
    }
    if (m) {
        free(m->pool);
        free(m->set);
        free(m->stack);
        free(m->mark);
        free(m->next);
    }
    free(m);
    if (s == KF_OK) {
        *out = d;
    } else {
        kf_dfa_free(d);
    }
    return s;
}

void kf_dfa_free(kf_dfa *d) {
    if (!d) return;
    free(d->next);
    free(d->distance);
    free(d->plain);
    free(d);
}

bool kf_dfa_goes_on(const kf_dfa *d, uint16_t state) {
    for (size_t c = 1; c < d->n_classes; c++)
        if (d->next[state * d->n_classes + c]) return true;
    return false;
}
